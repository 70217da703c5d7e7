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

  `Sparx.WebSocket.serve/4` starts one for a request. Between messages the process hibernates, and is a few hundred words.

  Callbacks return

  | | |
  | --- | --- |
  | `{:ok, state}` | |
  | `{:push, frames, state}` | and send a frame or several; waits while the client is slow |
  | `{:close, code, reason, state}` | and close; `terminate/2` follows when the client has answered |

  A callback that fails closes its socket with 1011, and its reason is logged. When the server ends, the process does.
  """

  alias Sparx.WebSocket

  @type state :: term
  @type result ::
          {:ok, state}
          | {:push, WebSocket.data() | [WebSocket.data()], state}
          | {:close, 1000..4999, binary, state}

  @doc "The socket is open. The default returns `{:ok, argument}`."
  @callback init(WebSocket.t(), argument :: term) :: result

  @doc "A text or binary message has come."
  @callback handle_frame({:text | :binary, binary}, state) :: result

  @doc "A ping, which was answered, or a pong has come. The default ignores it."
  @callback handle_control({:ping | :pong, binary}, state) :: result

  @doc "Another message has come to the process. The default ignores it."
  @callback handle_info(term, state) :: result

  @doc """
  The socket has ended: `{:close, code, reason}` of the client's close frame, or `:closed` without one.
  After a failure `{:error, exception}`. What it returns is of no meaning.
  """
  @callback terminate({:close, 1000..4999, binary} | :closed | {:error, term}, state) :: term

  @optional_callbacks terminate: 2

  @doc false
  defmacro __using__(_options) do
    quote do
      @behaviour Sparx.WebSocket.Handler

      @impl true
      def init(_socket, argument), do: {:ok, argument}

      @impl true
      def handle_control(_frame, state), do: {:ok, state}

      @impl true
      def handle_info(_message, state), do: {:ok, state}

      defoverridable init: 2, handle_control: 2, handle_info: 2
    end
  end
end
