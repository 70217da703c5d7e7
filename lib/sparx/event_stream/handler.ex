# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.EventStream.Handler do
  @moduledoc """
  A process for each client of an event stream, started by `Sparx.EventStream.serve/4`.

  `handle_info/2` receives Erlang messages (from `Phoenix.PubSub`, `Registry`, a timer). Callbacks return the events to send:

  | return | |
  | --- | --- |
  | `{:ok, state}` | nothing is sent |
  | `{:push, events, state}` | one event, or a list of them, see `t:Sparx.EventStream.event/0` |
  | `{:stop, state}` | the response ends; `EventSource` reconnects after its retry time |
  | `{:stop, events, state}` | the same, after these events |

  A callback never waits for the client. Events for a slow client wait in the process, up to `:max_buffer` bytes; beyond that the client is cut off. What is pushed
  when nothing waits may be larger.

  `terminate/2` is called once, with the reason: `:stop` (a callback returned it), `:closed` (the client has left), `:timeout` (the client was slower than `:response_rate`),
  `:slow` (more than `:max_buffer` bytes waited for it), `:shutdown` (the server has ended, or `handle_drain/1` has stopped), `{:error, reason}` (a
  callback failed, which is logged). It is not called if `init/2` has failed.

  When the server drains (`Sparx.drain/2`, SIGTERM, `Sparx.restart/2`), `handle_drain/1` is called. Without that callback the stream ends, so that
  clients reconnect elsewhere. A stream that continues is cut at the deadline.

  The process is an OTP special process: `:sys.get_state/1` and similar functions work. It traps exits: when a linked process ends,
  `handle_info/2` receives `{:EXIT, pid, reason}`, which the default ignores like every other message. It hibernates between messages (about 1.5 kB).
  """

  @type state :: term
  @type events :: Sparx.EventStream.event() | [Sparx.EventStream.event()]
  @type return :: {:ok, state} | {:push, events, state} | {:stop, state} | {:stop, events, state}

  @doc "Called first, in the process of the stream, with the request and what `serve/4` was given. Do not answer the request in any other way."
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
