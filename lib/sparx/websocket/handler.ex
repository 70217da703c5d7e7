# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.WebSocket.Handler do
  @moduledoc """
  A module that serves WebSockets, each in a small process of its own.

      defmodule MyApp.Chat do
        use Sparx.WebSocket.Handler

        @impl true
        def init(socket, name) do
          MyApp.Room.join(name)
          {:ok, %{socket: socket, name: name}}
        end

        @impl true
        def handle_frame({:text, text}, state) do
          MyApp.Room.say(state.name, text)
          {:ok, state}
        end

        @impl true
        def handle_info({:said, name, text}, state), do: {:push, {:text, [name, ": ", text]}, state}

        @impl true
        def terminate(_reason, state), do: MyApp.Room.leave(state.name)
      end

  `Sparx.WebSocket.serve/4` starts one for a request. Between messages the process hibernates, and takes a few kilobytes of memory.

  ## What callbacks return

  | result | meaning |
  | --- | --- |
  | `{:ok, state}` | continues |
  | `{:push, frames, state}` | sends a frame or several; waits while the client is slow |
  | `{:close, code, text, state}` | closes the socket with this code (RFC 6455, section 7.4) and text |
  | `{:stop, reason, state}` | closes the socket: with 1000 for `:normal`, 1001 for `:shutdown`, 1012 for `{:shutdown, :restart}`, 1000 for any other `{:shutdown, _}`. Any other reason is a failure |
  | `{:stop, reason, detail, state}` | the same, with the code `detail`, or the code and text `{code, text}` |
  | `{:stop, reason, detail, frames, state}` | sends frames before that |

  After a close or a stop `terminate/2` is called at once, and no other callback after it; the process ends
  when the client has answered the close, or when `:close_timeout` is over.

  ## Failures

  A callback that raises, exits, or returns something else closes its socket with 1011. So does one that returns a wrong frame or close
  code. `terminate/2` is called (not if `init/2` failed: there is no state), a log line names the module and the reason, and the process ends with
  `{:shutdown, reason}`, so that linked processes end too.

  ## The process

  It is an OTP special process: `:sys.get_state/1`, `:sys.get_status/1`, `:sys.suspend/1` and the like, code change, and `GenServer.stop/3` work. Its
  `$callers` begin with the process that called `serve/4`. It traps exits, as the processes of Cowboy and Bandit do: when a linked process ends,
  `handle_info/2` receives `{:EXIT, pid, reason}`. Its default stops with that reason, unless it is `:normal` or a shutdown.
  The process is linked to its server, and ends with it.
  """

  alias Sparx.WebSocket

  @type state :: term

  @typedoc "A close code, or the code and a text of at most 123 bytes."
  @type detail :: 1000..4999 | {1000..4999, iodata | nil}

  @type frames :: WebSocket.data() | [WebSocket.data()]

  @type result ::
          {:ok, state}
          | {:push, frames, state}
          | {:close, 1000..4999, iodata, state}
          | {:stop, reason :: term, state}
          | {:stop, reason :: term, detail, state}
          | {:stop, reason :: term, detail, frames, state}

  @typedoc """
  Why a socket has ended. WebSock's name for it is in brackets.

  | reason | |
  | --- | --- |
  | `:normal`, `:shutdown`, `{:shutdown, term}` | the handler closed or stopped it with that reason [`:normal`] |
  | `{:close, code, text}` | the client closed it [`:remote`]; 1005 if it gave no code |
  | `:closed` | the client has left without a close, or the port program has ended [`{:error, :closed}`] |
  | `:timeout` | `:idle_timeout` is over, the client did not answer a ping, or was too slow (`:response_rate`, `:write_timeout`) [`:timeout`] |
  | `:shutdown` | the server drains or ends [`:shutdown`] |
  | `{:error, {code, text}}` | the client violated the protocol and received a close with this code [`{:error, …}`] |
  | `{:error, reason}` | a callback failed, or stopped with a reason that is neither `:normal` nor a shutdown; `:refused` if it sent text that was not UTF-8; `:aborted` if a process was killed while it sent a message of more than half of `:window` |
  """
  @type reason ::
          :normal
          | :shutdown
          | {:shutdown, term}
          | {:close, 1000..4999, binary}
          | :closed
          | :timeout
          | {:error, term}

  @doc "The socket is open. The default returns `{:ok, argument}`."
  @callback init(WebSocket.t(), argument :: term) :: result

  @doc "A text or binary message has arrived."
  @callback handle_frame({:text | :binary, binary}, state) :: result

  @doc "A ping, which was answered already, or a pong has arrived. The default ignores it."
  @callback handle_control({:ping | :pong, binary}, state) :: result

  @doc """
  Called when the process has received an Erlang message.

  The default ignores it, except for the exit of a linked process: it stops with its reason, unless that is `:normal` or a shutdown.
  """
  @callback handle_info(term, state) :: result

  @doc """
  Called when the socket has ended. The return value is ignored.

  It is called once, however the socket ends, unless the process is killed or `init/2` has failed.
  """
  @callback terminate(reason, state) :: term

  @doc "The code of the module was changed in a release upgrade (`c:GenServer.code_change/3`). The default keeps the state."
  @callback code_change(old :: term, state, extra :: term) :: {:ok, state} | {:error, term}

  @optional_callbacks terminate: 2, code_change: 3

  @doc false
  defmacro __using__(_options) do
    quote do
      @behaviour Sparx.WebSocket.Handler

      @impl true
      def init(_socket, argument), do: {:ok, argument}

      @impl true
      def handle_control(_frame, state), do: {:ok, state}

      @impl true
      def handle_info(message, state), do: Sparx.WebSocket.Handler.ignore(message, state)

      defoverridable init: 2, handle_control: 2, handle_info: 2
    end
  end

  @doc false
  def ignore({:EXIT, _pid, reason}, state) do
    if reason in [:normal, :shutdown] or match?({:shutdown, _}, reason),
      do: {:ok, state},
      else: {:stop, reason, state}
  end

  def ignore(_message, state), do: {:ok, state}
end
