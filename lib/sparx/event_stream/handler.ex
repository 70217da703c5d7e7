defmodule Sparx.EventStream.Handler do
  @moduledoc """
  A process for each client of an event stream, started by `Sparx.EventStream.serve/4`.

  What is sent to it (by `Phoenix.PubSub`, `Registry`, a timer) comes to `handle_info/2`, and events go out by what the callbacks return:

  | return | |
  | --- | --- |
  | `{:ok, state}` | nothing is sent |
  | `{:push, events, state}` | one event, or a list of them, see `t:Sparx.EventStream.event/0` |
  | `{:stop, state}` | the response ends; `EventSource` comes back after its time for that |
  | `{:stop, events, state}` | the same, after these events |

  A callback never waits for the client: what a slow one has not taken waits in the process, at most `:max_buffer` bytes of it, beyond which the client is
  cut off.

  `terminate/2` is called once, with the reason: `:stop` (a callback returned it), `:closed` (the client has gone), `:timeout` (the client took nothing for the option
  `:write_timeout`), `:slow` (it took less than was pushed), `:shutdown` (the server has ended, or `handle_drain/1` has stopped), `{:error, reason}` (a
  callback failed, which is logged).

  When the server drains (`Sparx.drain/2`, SIGTERM, `Sparx.restart/2`), `handle_drain/1` is called; unless the module has one, the stream is stopped, so that
  clients come back elsewhere. A stream that goes on is cut at the deadline.

  The process is a special process of OTP: `:sys.get_state/1` and the like work, and it sleeps between messages (about 1.5 kB).
  """

  @type state :: term
  @type events :: Sparx.EventStream.event() | [Sparx.EventStream.event()]
  @type return :: {:ok, state} | {:push, events, state} | {:stop, state} | {:stop, events, state}

  @doc "Called first, in the process of the stream, with the request and what `serve/4` was given. It may be answered by nothing but what is returned."
  @callback init(Sparx.Request.t(), argument :: term) :: return
  @doc "A message to the process."
  @callback handle_info(message :: term, state) :: return
  @doc "The server drains."
  @callback handle_drain(state) :: return
  @doc "The stream has ended."
  @callback terminate(reason :: term, state) :: term
  @optional_callbacks handle_drain: 1, terminate: 2

  @doc false
  defmacro __using__(_options) do
    quote do
      @behaviour Sparx.EventStream.Handler

      @impl true
      def init(_request, argument), do: {:ok, argument}

      @impl true
      def handle_info(_message, state), do: {:ok, state}

      defoverridable init: 2, handle_info: 2
    end
  end
end
