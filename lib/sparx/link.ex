defmodule Sparx.Link do
  @moduledoc false
  # What a request carries of its server: how an answer gets to the port, from any process, on any node.
  #
  # On the server's own node a process writes to the port itself. On another one it sends what is to be
  # written to the server, and asks it for what is in the table.
  #
  # The table has one row for each response that is streamed:
  #
  #     {stream, window left, phase, status, headers, length}
  #
  # and phase goes from :head (status and headers are still here) to :body to :finished. The server makes and
  # deletes rows and adds to the window; the writer takes from it.
  #
  # A worker that was given several requests at once (Sparx.Server.Batches) does not write each answer: it holds them until it
  # has the last. What it holds is in a row of another table, `{worker, messages}`, so that the server can send it when the worker
  # takes long, or dies. Whoever gets the claims decides: the server closes them and takes the row; the worker claims once
  # more before it writes, and again when it has written.

  alias Sparx.{Frame, Headers}
  alias Sparx.Server.Claims

  defstruct [:server, :port, :table, :held, :window, :max_frame, :write_timeout]

  @type t :: %__MODULE__{
          server: pid,
          port: port | pid,
          table: :ets.table() | nil,
          held: :ets.table() | nil,
          window: pos_integer,
          max_frame: pos_integer,
          write_timeout: pos_integer
        }

  @typedoc "What a worker holds when it begins a request of a batch, and whether others follow."
  @type batch :: {:more, iodata} | {:last, Claims.t(), iodata}

  @type error :: {:error, :closed | :timeout | :already_sent | :not_started}

  @call_timeout 60_000

  # Bytes. A larger answer is worth a write of its own.
  @held_at_most 16_384

  # In the process dictionary of a worker: the request of a batch that it works on, and then `{:held, messages}`, if it holds the
  # answer.
  @in_work :"$sparx_in_work"

  @doc "Whether a link is that of a server of this node."
  defguard is_local(link) when node(link.port) == node()

  @doc "Writes messages to the port."
  @spec write(t, iodata) :: :ok | error
  def write(%{port: port} = link, messages) when is_local(link), do: command(port, messages)

  def write(link, messages),
    do: GenServer.cast(link.server, {:write, link.port, IO.iodata_to_binary(messages)})

  @doc "Writes a frame to a port of this node, or to the process that stands in for one."
  @spec command(port | pid, iodata) :: :ok | {:error, :closed}
  def command(port, messages) when is_port(port) do
    Port.command(port, messages)
    :ok
  rescue
    ArgumentError -> {:error, :closed}
  end

  def command(pid, messages) do
    send(pid, {:command, IO.iodata_to_binary(messages)})
    :ok
  end

  @doc "Asks the server about a stream; never waits for a server that has died."
  @spec ask(t, Frame.stream(), term, timeout) :: term | error
  def ask(link, id, question, timeout \\ @call_timeout) do
    GenServer.call(link.server, {:stream, link.port, id, question}, timeout)
  catch
    :exit, {:timeout, _} -> {:error, :timeout}
    :exit, _ -> {:error, :closed}
  end

  @doc "Asks the server for the link to a port program of its; one that has ended is closed to all."
  @spec fetch(pid, port | pid) :: t
  def fetch(server, port) do
    case GenServer.call(server, :link, :infinity) do
      %{port: ^port} = link -> link
      link -> %{link | port: port, table: nil, held: nil}
    end
  catch
    :exit, _has_ended -> exit(:shutdown)
  end

  @doc "Tells the server something about a stream."
  @spec tell(t, Frame.stream(), term) :: :ok
  def tell(link, id, message), do: GenServer.cast(link.server, {:stream, link.port, id, message})

  # ── whole responses ────────────────────────────────────────────────────────────────────────────────

  @doc "Sends a whole answer with a body of `size` bytes: at once, or with those of the other requests of a batch."
  @spec answer(t, Frame.stream(), non_neg_integer, iodata) :: :ok | error
  def answer(%{port: port} = link, id, size, message) do
    case Process.get(@in_work) do
      {^id, ^port, batch} -> with_batch(batch, link, size, message)
      _none_or_another -> write(link, message)
    end
  end

  defp with_batch({:more, held}, link, size, message) when size <= @held_at_most do
    message = IO.iodata_to_binary(message)
    if one_frame?(link, held, message), do: hold(link, [held | message], message), else: write(link, message)
  end

  defp with_batch({:last, claims, held}, link, _size, message) do
    if Claims.claim?(claims), do: write_all(link, claims, held, message), else: write(link, message)
  end

  defp with_batch(_batch, link, _size, message), do: write(link, message)

  # A longer one is the end of the port program.
  defp one_frame?(link, held, message), do: IO.iodata_length([held | message]) <= link.max_frame

  # There is no row any more when the server has taken it.
  defp hold(link, held, message) do
    if :ets.update_element(link.held, self(), {2, held}) do
      Process.put(@in_work, {:held, held})
      :ok
    else
      write(link, message)
    end
  rescue
    # The port program has died, and the table is that of its life.
    ArgumentError -> {:error, :closed}
  end

  @doc "A worker begins to work on a request of a batch. Only its own answer to that one has to do with the batch."
  @spec begin_request(t, Frame.stream(), batch) :: term
  def begin_request(link, id, batch), do: Process.put(@in_work, {id, link.port, batch})

  @doc "It has ended it, or given it away."
  @spec end_request() :: term
  def end_request, do: Process.delete(@in_work)

  @doc "It has ended it, before which it held `held`. Returns what it holds now."
  @spec end_request(t, iodata) :: iodata
  def end_request(link, held) do
    case Process.delete(@in_work) do
      {:held, held} -> held
      {_id, _port, _batch} -> held
      nil -> held_by_row(link, held)
    end
  end

  # The handler has given the request away, or has erased the process dictionary.
  defp held_by_row(link, held) do
    case :ets.lookup(link.held, self()) do
      [{_worker, held}] -> held
      [] -> []
    end
  rescue
    ArgumentError -> held
  end

  @doc "Whether a worker holds an answer to a request that it has begun so."
  @spec holds_answer?(t, batch | nil) :: boolean
  def holds_answer?(link, {:more, held}) do
    case :ets.lookup(link.held, self()) do
      [{_worker, now}] -> now != held
      [] -> false
    end
  rescue
    ArgumentError -> false
  end

  def holds_answer?(_link, _batch), do: false

  @doc "Writes what a worker still holds at the end of a batch, unless the server has taken it."
  @spec write_held(t, Claims.t(), iodata) :: term
  def write_held(link, claims, held), do: Claims.claim?(claims) && write_all(link, claims, held, [])

  # Who is killed before it has claimed again, such as while the port is busy, may have written nothing.
  defp write_all(link, claims, held, message) do
    result = write_together(link, held, message)
    Claims.claim?(claims)
    result
  end

  defp write_together(_link, [], []), do: :ok
  defp write_together(link, [], message), do: write(link, message)

  defp write_together(link, held, message) do
    if one_frame?(link, held, message),
      do: write(link, [held | message]),
      else: with(:ok <- write(link, held), do: write(link, message))
  end

  @doc "A worker begins a batch and holds nothing."
  @spec begin_batch(t, pid) :: true
  def begin_batch(link, worker), do: :ets.insert(link.held, {worker, []})

  @doc "A worker has sent what it held."
  @spec end_batch(t, pid) :: true
  def end_batch(link, worker), do: :ets.delete(link.held, worker)

  @doc "Takes what a worker holds, which has no more claims."
  @spec take_held(t, pid) :: iodata
  def take_held(link, worker) do
    case :ets.take(link.held, worker) do
      [{_worker, held}] -> held
      [] -> []
    end
  end

  # ── streamed responses ─────────────────────────────────────────────────────────────────────────────

  @doc "Begins a streamed response: nothing is written yet."
  @spec open(t, Frame.stream(), pos_integer, Headers.t(), non_neg_integer | nil) :: :ok | error
  def open(link, id, status, headers, length),
    do: ask(link, id, {:open, self(), {status, headers, length}})

  @doc "Adds a header to a response whose head has not gone out."
  @spec add_header(t, Frame.stream(), {binary, binary}) :: :ok | error | {:error, :too_long}
  def add_header(link, id, field), do: at_table(link, id, :add_header, field)

  @doc "Writes all of `data`, and waits for room as often as there is none. The first of it takes the head along."
  @spec send_data(t, Frame.stream(), iodata) :: :ok | error
  def send_data(link, id, data), do: send_data(link, id, data, IO.iodata_length(data))

  defp send_data(link, id, data, size) do
    case at_table(link, id, :reserve, size) do
      {:ok, ^size, head} -> write(link, [head | data(id, data, size)])
      {:ok, taken, head} -> send_part(link, id, data, size, taken, head)
      {:error, reason} -> {:error, reason}
    end
  end

  defp send_part(link, id, data, size, taken, head) do
    {part, rest} = split(data, taken)

    with :ok <- write(link, [head | data(id, part, taken)]),
         :ok <- ask(link, id, :room, link.write_timeout),
         do: send_data(link, id, rest, size - taken)
  end

  defp data(_id, _data, 0), do: []
  defp data(id, data, size), do: Frame.data(id, data, size)

  @doc "Ends a streamed response."
  @spec finish(t, Frame.stream(), Headers.t() | nil) :: :ok | error
  def finish(link, id, trailers) do
    case at_table(link, id, :finish, trailers) do
      {:ok, messages} -> write(link, messages)
      {:error, reason} -> {:error, reason}
    end
  end

  defp at_table(link, id, operation, argument) do
    with :no_row <- in_table(link, id, operation, argument), do: ask(link, id, :why_no_row)
  end

  defp in_table(link, id, operation, argument) when is_local(link),
    do: at_table!(link.table, id, operation, argument)

  defp in_table(link, id, operation, argument), do: ask(link, id, {:at_table, operation, argument})

  @doc "Does one of the table's operations, on the node where the table is."
  def at_table!(table, id, :reserve, size), do: do_reserve(table, id, size)
  def at_table!(table, id, :add_header, field), do: do_add_header(table, id, field)
  def at_table!(table, id, :finish, trailers), do: do_finish(table, id, trailers)

  defp do_reserve(table, id, size) do
    case row(table, id) do
      {_id, window, :body, _, _, _} -> {:ok, take(table, id, window, size), []}
      {_id, window, :head, _, _, _} = row -> {:ok, take(table, id, window, size), take_head(table, row)}
      {_id, _window, :finished, _, _, _} -> {:error, :already_sent}
      no_row -> no_row
    end
  end

  # Another process may have taken of the same window meanwhile: then all is given back, and this one waits.
  defp take(table, id, window, size) do
    wanted = max(min(window, size), 0)

    if wanted == 0 or :ets.update_counter(table, id, {2, -wanted}) >= 0 do
      wanted
    else
      :ets.update_counter(table, id, {2, wanted})
      0
    end
  end

  defp take_head(table, {id, _window, :head, status, headers, length}) do
    :ets.update_element(table, id, [{3, :body}, {5, []}])
    Frame.head(id, status, headers, length)
  end

  defp do_add_header(table, id, field) do
    case row(table, id) do
      {_id, _window, :head, _, headers, _} ->
        do_add_header(table, id, field, headers)

      {_id, _window, _sent, _, _, _} ->
        {:error, :already_sent}

      no_row ->
        no_row
    end
  end

  defp do_add_header(table, id, field, headers) do
    if Headers.fit?([field | headers]),
      do: :ets.update_element(table, id, {5, headers ++ [field]}) && :ok,
      else: {:error, :too_long}
  end

  defp do_finish(table, id, trailers) do
    case row(table, id) do
      {_id, _window, :finished, _, _, _} -> {:error, :already_sent}
      {_id, _window, _phase, _, _, _} = row -> finish_row(table, row, trailers)
      no_row -> no_row
    end
  end

  defp finish_row(table, row, trailers) do
    :ets.update_element(table, elem(row, 0), [{3, :finished}, {5, []}])
    {:ok, ending(row, trailers)}
  end

  # A response of which nothing went out yet, and which has no length that says otherwise, is a whole one.
  defp ending({id, _window, :head, status, headers, nil}, nil), do: Frame.respond(id, status, headers, [])

  defp ending({id, _window, :head, status, headers, length}, trailers),
    do: [Frame.head(id, status, headers, length) | Frame.finish(id, trailers)]

  defp ending(row, trailers), do: Frame.finish(elem(row, 0), trailers)

  defp row(table, id) do
    case :ets.lookup(table, id) do
      [row] -> row
      [] -> :no_row
    end
  rescue
    # The port program has died, and the table is that of its life.
    ArgumentError -> {:error, :closed}
  end

  @doc "The first bytes of iodata and the rest, without joining what is large."
  def split(data, at), do: data |> :erlang.iolist_to_iovec() |> split(at, [])

  defp split(rest, 0, taken), do: {Enum.reverse(taken), rest}

  defp split([binary | rest], at, taken) when byte_size(binary) <= at,
    do: split(rest, at - byte_size(binary), [binary | taken])

  defp split([binary | rest], at, taken) do
    <<part::binary-size(at), left::binary>> = binary
    {Enum.reverse([part | taken]), [left | rest]}
  end
end
