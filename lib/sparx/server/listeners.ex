# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Server.Listeners do
  @moduledoc false
  # The sockets that a server listens on: bound here once, and handed to each port program that starts
  # (Sparx.Server.Channel). So they stay open when a program ends: clients that connect meanwhile wait in the kernel's
  # queue until the next program, or another one of the server, accepts them.
  # This process owns them, so that they outlive a restart of the server process. It binds at the first request. All
  # port programs of a server share each socket. If descriptors cannot be handed over, nothing is bound here, and each
  # port program binds for itself.

  use GenServer

  alias Sparx.{Config, StartError, TLS}
  alias Sparx.Server.Channel

  @attempts 16

  @type holder :: pid | nil

  @doc "Starts the process, where descriptors can be handed over; else `:ignore`."
  @spec start_link(Config.t()) :: GenServer.on_start()
  def start_link(%{descriptors: true, opener: nil} = config),
    do: if(Channel.supported?(), do: GenServer.start_link(__MODULE__, config), else: :ignore)

  def start_link(_config), do: :ignore

  @doc "The descriptors to be handed over, in the order of the listeners. `:none`: the port program binds by itself."
  @spec fetch(holder) :: {:ok, [non_neg_integer]} | :none | {:error, StartError.t()}
  def fetch(nil), do: :none

  def fetch(holder),
    do: call(holder, :fetch, {:error, StartError.new(:exit, "the server's listeners are gone")})

  @doc "It turned out that nothing can be handed over: closes all, for good."
  @spec give_up(holder) :: :ok
  def give_up(nil), do: :ok
  def give_up(holder), do: call(holder, :give_up, :ok)

  @doc "The server ends: from now on only port programs that have been handed them hold the sockets."
  @spec close(holder) :: :ok
  def close(nil), do: :ok
  def close(holder), do: call(holder, :close, :ok)

  defp call(holder, question, otherwise) do
    GenServer.call(holder, question, :infinity)
  catch
    :exit, _has_ended -> otherwise
  end

  # ── the process ────────────────────────────────────────────────────────────────────────────────────

  @impl GenServer
  def init(config) do
    Process.flag(:trap_exit, true)
    {:ok, %{listeners: config.listeners, bound: nil}}
  end

  # bound: nil (not yet), a socket for each listener, or :none (never)
  @impl GenServer
  def handle_call(:fetch, _from, %{bound: :none} = state), do: {:reply, :none, state}

  def handle_call(:fetch, _from, %{bound: nil} = state) do
    case bind_all(state.listeners) do
      {:ok, sockets} -> {:reply, {:ok, descriptors(sockets)}, %{state | bound: sockets}}
      {:error, error} -> {:reply, {:error, error}, state}
    end
  end

  def handle_call(:fetch, _from, state), do: {:reply, {:ok, descriptors(state.bound)}, state}
  def handle_call(:give_up, _from, state), do: {:reply, :ok, %{close_all(state) | bound: :none}}
  def handle_call(:close, _from, state), do: {:reply, :ok, close_all(state)}

  @impl GenServer
  def handle_info(_message, state), do: {:noreply, state}

  @impl GenServer
  def terminate(_reason, state), do: close_all(state)

  defp close_all(%{bound: [_ | _] = sockets} = state) do
    for {socket, listener} <- Enum.zip(sockets, state.listeners) do
      :socket.close(socket)
      with path when path != nil <- file(listener), do: File.rm(path)
    end

    %{state | bound: nil}
  end

  defp close_all(state), do: state

  defp descriptors(sockets) do
    for socket <- sockets do
      {:ok, fd} = :socket.getopt(socket, {:otp, :fd})
      fd
    end
  end

  # ── binding ────────────────────────────────────────────────────────────────────────────────────────

  # Either all are bound or none.
  defp bind_all(listeners), do: bind_all(listeners, [])
  defp bind_all([], bound), do: {:ok, bound |> Enum.reverse() |> Enum.map(&elem(&1, 0))}

  defp bind_all([listener | rest], bound) do
    case open(listener) do
      {:ok, socket} ->
        bind_all(rest, [{socket, listener} | bound])

      {:error, reason} ->
        for {socket, listener} <- bound do
          :socket.close(socket)
          with path when path != nil <- file(listener), do: File.rm(path)
        end

        {:error, error(listener, reason)}
    end
  end

  # The same text as the port program's when it binds itself.
  defp error(listener, reason),
    do: StartError.new(:address, "cannot listen on #{Config.address(listener)}: #{text(reason)}", "listeners")

  defp text(reason) when is_binary(reason), do: reason

  defp text(reason) when is_atom(reason),
    do: reason |> :inet.format_error() |> to_string() |> String.capitalize()

  defp text(reason), do: inspect(reason)

  defp open(%{fd: fd}) do
    with {:ok, socket} <- adopt(fd) do
      case :socket.getopt(socket, {:socket, :acceptconn}) do
        {:ok, true} -> {:ok, socket}
        _not_yet -> closed_on_error(socket, :socket.listen(socket, 1024))
      end
    end
  end

  defp open(listener), do: open(listener, @attempts)

  # A port that the system chose may already be in use for UDP.
  defp open(listener, attempts) do
    with {:ok, socket} <- bind(listener) do
      if attempts == 0 or udp_free?(socket, listener) do
        {:ok, socket}
      else
        :socket.close(socket)
        open(listener, attempts - 1)
      end
    end
  end

  defp udp_free?(socket, %{port: 0, tls: tls} = listener) do
    {:ok, %{port: port}} = :socket.sockname(socket)

    with true <- TLS.http3(tls) != nil,
         {:ok, family, address} <- address(%{listener | port: port}),
         {:ok, udp} <- :socket.open(family, :dgram, :default) do
      free = :socket.bind(udp, address) == :ok
      :socket.close(udp)
      free
    else
      _no_http3 -> true
    end
  end

  defp udp_free?(_socket, _listener), do: true

  defp bind(listener) do
    with {:ok, family, address} <- address(listener),
         {:ok, socket} <- :socket.open(family, :stream, :default) do
      remove_stale(listener)
      closed_on_error(socket, listen(socket, address, listener))
    end
  end

  # The inherited descriptor stays open, for the next start in this VM.
  defp adopt(fd) do
    case :socket.open(fd, %{dup: true}) do
      {:ok, socket} -> {:ok, socket}
      {:error, _reason} -> {:error, "it is not a socket"}
    end
  end

  defp listen(socket, address, listener) do
    with :ok <- set_options(socket, address.family, listener),
         :ok <- :socket.bind(socket, address),
         :ok <- removed_on_error(file(listener), &set_file(&1, listener)),
         do:
           removed_on_error(file(listener), fn _ ->
             :socket.listen(socket, Map.get(listener, :backlog, 1024))
           end)
  end

  defp removed_on_error(path, fun) do
    with {:error, reason} <- fun.(path) do
      path && File.rm(path)
      {:error, reason}
    end
  end

  defp closed_on_error(socket, :ok), do: {:ok, socket}

  defp closed_on_error(socket, {:error, reason}) do
    :socket.close(socket)
    {:error, reason}
  end

  defp set_options(_socket, :local, _listener), do: :ok

  defp set_options(socket, family, listener) do
    with :ok <- :socket.setopt(socket, {:socket, :reuseaddr}, true),
         :ok <- set(socket, {:socket, :reuseport}, listener[:reuse_port]),
         do:
           if(family == :inet6,
             do: :socket.setopt(socket, {:ipv6, :v6only}, listener[:ipv6_only] == true),
             else: :ok
           )
  end

  defp set(socket, option, true), do: :socket.setopt(socket, option, true)
  defp set(_socket, _option, _off), do: :ok

  # Set before it listens, so that nobody can connect without permission.
  defp set_file(nil, _listener), do: :ok

  defp set_file(path, listener) do
    with :ok <- given(listener[:owner], &File.chown(path, &1)),
         :ok <- given(listener[:group], &File.chgrp(path, &1)),
         do: given(listener[:mode], &File.chmod(path, &1))
  end

  defp given(nil, _fun), do: :ok
  defp given(value, fun), do: fun.(value)

  defp address(%{address: "unix:@" <> name}), do: {:ok, :local, %{family: :local, path: <<0, name::binary>>}}
  defp address(%{address: "unix:" <> path}), do: {:ok, :local, %{family: :local, path: path}}

  defp address(%{address: text, port: port}) do
    case :inet.parse_strict_address(String.to_charlist(text)) do
      {:ok, address} when tuple_size(address) == 4 ->
        {:ok, :inet, %{family: :inet, addr: address, port: port}}

      {:ok, address} ->
        {:ok, :inet6, %{family: :inet6, addr: address, port: port}}

      {:error, _} ->
        {:error, "it is not an address"}
    end
  end

  # The path of a unix socket, if it is in the file system and was bound here.
  defp file(%{fd: _fd}), do: nil
  defp file(%{address: "unix:@" <> _name}), do: nil
  defp file(%{address: "unix:" <> path}), do: path
  defp file(_other), do: nil

  # A socket file that nobody listens on any more was left by a process that died.
  defp remove_stale(listener) do
    with path when path != nil <- file(listener),
         {:ok, %{type: :other}} <- File.stat(path),
         {:ok, probe} <- :socket.open(:local, :stream, :default) do
      with {:error, :econnrefused} <- :socket.connect(probe, %{family: :local, path: path}), do: File.rm(path)
      :socket.close(probe)
    end
  end
end
