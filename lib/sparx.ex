# SPDX-License-Identifier: Apache-2.0
defmodule Sparx do
  @moduledoc """
  An HTTP server whose sockets live in a C program, and which delivers requests on demand.

      children = [{Sparx, port: 4000, handler: MyApp.Web}]

  or, with a function:

      {:ok, server} = Sparx.start_link(port: 4000, handler: &MyApp.web/1)

  See `Sparx.Handler` for how to answer, `Sparx.Request` and `Sparx.Response` for the API that handlers use, and
  `Sparx.Config` for all options.

  ## As a producer

  Without `:handler` the server is a producer of the GenStage protocol, and your own consumers subscribe to it; an
  event is a `Sparx.Request`:

      {:ok, producer} = Sparx.start_link(port: 4000)
      GenStage.sync_subscribe(consumer, to: producer, max_demand: 1, min_demand: 0)

  Demand is the number of requests that a consumer can handle now. If it asks for more, the rest waits in its mailbox.
  With `ports: n` there are n producers, see `producers/1`.
  """

  alias Sparx.{Config, Server, StartError}

  # As long as a timer of the VM can be, less what a call may take besides.
  defguardp is_ms(timeout) when is_integer(timeout) and timeout in 0..0xFFFF_0000

  @typedoc "What `start_link/1` returned, or the name that was given."
  @type server :: GenServer.server()

  @doc """
  Starts a server. With a handler, or with several ports, `pid` is the supervisor of the whole server;
  otherwise it is a producer.

  When this returns, the server is listening. `{:error, %Sparx.StartError{}}` says why it could not start; wrong options raise
  `ArgumentError`.
  """
  @spec start_link(keyword) :: {:ok, pid} | {:error, StartError.t() | {:already_started, pid} | term}
  def start_link(options) do
    config = Config.new!(options)

    result =
      case start(plugged(config)) do
        {:ok, pid} -> {:ok, pid}
        {:error, reason} -> {:error, StartError.unwrap(reason)}
      end

    config.plug && Sparx.Plug.started(config.plug, config.listeners, result)
    result
  end

  # Compiled only if Plug is a dependency.
  @compile {:no_warn_undefined, Sparx.Plug}

  defp plugged(%{plug: nil} = config), do: config
  defp plugged(config), do: %{config | handler: Sparx.Plug.handler(config.plug, config)}

  defp start(%{handler: nil, ports: 1} = config), do: Server.start_link({config, nil})
  defp start(config), do: Sparx.Supervisor.start_link(config)

  @doc """
  The version of Sparx.

      iex> match?({:ok, _version}, Version.parse(Sparx.version()))
      true
  """
  @spec version() :: binary
  def version, do: unquote(Mix.Project.config()[:version])

  @doc """
  A child specification, for `{Sparx, options}` in a list of children. Its id is the option `:name`, or unique.

  On shutdown a server stops accepting and finishes requests in progress, for at most the option `:drain_timeout`.
  """
  @spec child_spec(keyword) :: Supervisor.child_spec()
  def child_spec(options) do
    config = Config.new!(options)

    %{
      id: Keyword.get(options, :name) || {__MODULE__, make_ref()},
      start: {__MODULE__, :start_link, [options]},
      type: if(Config.answers?(config) or config.ports > 1, do: :supervisor, else: :worker),
      restart: :transient,
      shutdown: Config.limit(config, :drain_timeout) + 30_000
    }
  end

  @doc """
  The producers of a server, one for each of its port programs.
  """
  @spec producers(server) :: [pid]
  def producers(server) do
    pid = whereis(server)

    case Registry.lookup(Sparx.Registry, pid) do
      [{^pid, table}] -> Sparx.Supervisor.servers(table)
      [] -> [pid]
    end
  end

  @doc """
  What a server is doing.

    * `address`, `port`: the bound address and port of its first listener
    * `listeners`: all of them, each with `address` and `port`
    * `ports`: for each port program a map with `server` (its producer), `os_pid`, `version`, `features`, `sandbox`,
      `limits` (by name, as in force), `phase` (`:running`, `:draining` or `:restarting`), `restarts`;
      `running` (handlers that occupy a slot) and `waiting_for_clients` (handlers that wait for their clients,
      and occupy none); `subscriptions` (of consumers), `demand` (requests that consumers asked for and have
      not received), `surplus` (demand that consumers took back after the port had received it), `streams`
      (requests in progress), `waiting` (requests that wait for demand, since it was taken back); and
      `figures`: those of PROTOCOL.md, section 8, or nil while it is restarting: `connections` (some of them
      `idle` or `lingering`; the others have requests), `streams`, `queued` (`held_back` of them because their
      peers have used up their share), `peers`, `queue_wait` (µs), `shed`, `over_requests` (refused for
      `:limit_requests`; likewise `over_concurrent`, `over_connections`, `over_connection_rate`), …; and, for
      each credit, what is waiting: `body_queued` (bytes for clients), `read_credit` (chunks that were
      requested), `link_queued` (bytes for this VM), `files` (open files of responses). `sandbox` is a map of
      `"mode"`, `"parts"` (the parts in force), `"missing"` (the other parts, each with the reason) and
      `"landlock_abi"` (0: none)
  """
  @spec info(server) :: %{
          address: binary,
          port: :inet.port_number(),
          listeners: [%{address: binary, port: :inet.port_number()}],
          ports: [map]
        }
  def info(server) do
    ports = server |> producers() |> Enum.map(&Server.info/1)
    [%{listeners: [first | _] = listeners} | _] = ports
    %{address: first.address, port: first.port, listeners: listeners, ports: ports}
  end

  @doc """
  Stops a server gracefully: it stops accepting, closes idle connections, answers requests in progress with
  `connection: close`, and ends after `timeout` ms at the latest.

  Consumers receive `{:cancel, {:shutdown, :drained}}`, so GenStage consumers that subscribed with `cancel: :transient`
  stay alive. Returns `{:error, {:cut, n}}` if `n` connections had to be cut when the time was over.
  """
  @spec drain(server, timeout :: non_neg_integer) :: :ok | {:error, {:cut, pos_integer}}
  def drain(server, timeout \\ 30_000) when is_ms(timeout) do
    pid = whereis(server)
    answer = pid |> producers() |> drain_all(timeout)
    stop_supervisor(Registry.lookup(Sparx.Registry, pid), pid)
    answer
  end

  @doc """
  Replaces the port programs of a server gracefully, one after the other, for example after you have installed
  a new version.

  The new one is started and accepts connections before the old one stops accepting and finishes its requests in
  progress. Whatever is
  in progress after `timeout` ms is cut: `{:error, {:cut, n}}`. At most, a client notices that its idle connection was
  closed (RFC 9112, section 9.3.1). The two have `:workers` each. If the new one cannot be started, this returns
  `{:error, %Sparx.StartError{}}`, and the old one continues. Afterwards `producers/1` returns other processes.

  Three kinds of servers keep their processes, and start a new port program only when the old one has ended: those
  with subscribed consumers, whose demand is kept; those with HTTP/3; and those whose port programs bind by themselves
  (`descriptors: false`). Clients that connect meanwhile wait for the new program, or are served by another one with
  `ports: 2` or more. Only programs that bind by themselves cause refused connections meanwhile.
  """
  @spec restart(server, timeout :: non_neg_integer) :: :ok | {:error, {:cut, pos_integer} | StartError.t()}
  def restart(server, timeout \\ 30_000) when is_ms(timeout) do
    pid = whereis(server)

    case Registry.lookup(Sparx.Registry, pid) do
      [{^pid, table}] -> pid |> Sparx.Supervisor.restart(table, timeout) |> Enum.reduce(:ok, &worse/2)
      [] -> Server.restart(pid, timeout)
    end
  end

  @doc """
  Reads the certificates, keys and authorities of a server with TLS again. New connections use them; open connections stay as they are.

  If a file is wrong, nothing changes, and this returns `{:error, text}`, which names the file.
  """
  @spec reload_certificates(server) :: :ok | {:error, binary}
  def reload_certificates(server) do
    server |> producers() |> Sparx.TLS.reload()
  end

  defp drain_all(producers, timeout) do
    producers
    |> Enum.map(&Task.async(fn -> drain_one(&1, timeout) end))
    |> Task.await_many(:infinity)
    |> Enum.reduce(:ok, &worse/2)
  end

  defp drain_one(producer, timeout) do
    Server.drain(producer, timeout)
  catch
    :exit, _has_ended -> :ok
  end

  defp worse(:ok, answer), do: answer
  defp worse(error, :ok), do: error
  defp worse({:error, %StartError{}} = error, _cut), do: error
  defp worse(_cut, {:error, %StartError{}} = error), do: error
  defp worse({:error, {:cut, m}}, {:error, {:cut, n}}), do: {:error, {:cut, m + n}}

  defp stop_supervisor([], _pid), do: :ok

  defp stop_supervisor([_], pid) do
    Supervisor.stop(pid, :shutdown)
  catch
    :exit, _has_ended -> :ok
  end

  defp whereis(server) do
    case GenServer.whereis(server) do
      pid when is_pid(pid) -> pid
      _ -> exit({:noproc, {__MODULE__, :whereis, [server]}})
    end
  end
end
