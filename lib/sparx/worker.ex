defmodule Sparx.Worker do
  @moduledoc false
  # A process of the pool: subscribes to the server, asks for one request at a time and runs the handler. Of requests that
  # came together it may get several, and nothing more until it has done all of them.
  #
  # It takes requests in a form of its own (the subscription option `sparx: :raw`), so that decoding is done
  # here, and it writes its answers to the port by itself: the server's share of a request is small.
  #
  # What a handler leaves behind must not be seen by the next one. The process dictionary (and with it the
  # logger's metadata), messages and links are cleaned up after each request. What cannot be taken back by
  # another than who made it, such as a monitor, costs the worker its life: the pool has a new one at once.

  alias Sparx.{Link, Request, Response}
  alias Sparx.Server.Claims

  require Logger

  # Words of heap to begin with: some requests fit between two garbage collections.
  @heap 2_048

  @doc "Starts a worker that is linked to the calling pool."
  @spec start_link(pid, (Request.t() -> term)) :: pid
  def start_link(server, handler),
    do: :proc_lib.spawn_opt(__MODULE__, :init, [self(), server, handler], [:link, min_heap_size: @heap])

  @doc "Has a worker end, when it has ended what it has in work or is about to get."
  @spec leave(pid) :: term
  def leave(worker), do: send(worker, :"$sparx_leave")

  @doc false
  def init(pool, server, handler) do
    tag = Process.monitor(server)
    claims = if node(server) == node(), do: Claims.new()
    send(server, {:"$gen_producer", {self(), tag}, {:subscribe, nil, [sparx: mode(claims)]}})

    state = %{
      pool: pool,
      server: server,
      tag: tag,
      handler: handler,
      ask: {:"$gen_producer", {self(), tag}, {:ask, 1}},
      link: nil,
      claims: claims,
      worked: 0,
      leaving: false,
      kept: Process.get()
    }

    ask(state)
  end

  defp mode(nil), do: :raw
  defp mode(claims), do: {:raw, claims}

  # What the server sends before it confirms a cancellation is still worked on.
  defp ask(%{leaving: true, tag: tag, server: server} = state) do
    send(server, {:"$gen_producer", {self(), tag}, {:cancel, :shutdown}})
    loop(state)
  end

  defp ask(state) do
    send(state.server, state.ask)
    loop(state)
  end

  defp loop(%{tag: tag} = state) do
    receive do
      {:"$gen_consumer", {_server, ^tag}, [{id, port, head}]} ->
        state = linked(port, state)
        work(id, head, nil, state)
        state |> clean() |> ask()

      {:"$gen_consumer", {_server, ^tag}, [{_id, port, _head} | _] = events} ->
        state = linked(port, state)
        batch(events, length(events), [], %{state | worked: reductions()})

      {:"$gen_consumer", {_server, ^tag}, {:cancel, _reason}} ->
        exit(:shutdown)

      {:DOWN, ^tag, :process, _server, _reason} ->
        exit(:shutdown)

      :"$sparx_leave" ->
        ask(%{state | leaving: true})

      _left_behind ->
        loop(state)
    end
  end

  # Answers are held until the last request has its own, unless the server finds that this takes too long
  # (Sparx.Server.Batches). Then what has not been claimed is no longer for this worker either.
  defp batch([{id, _port, head} | rest], size, held, %{link: link, claims: claims} = state) do
    cond do
      not Claims.claim?(claims) ->
        ask(state)

      rest == [] ->
        work_in_batch(id, head, {:last, claims, held}, state)
        Link.end_request()
        state = clean(state)
        if Claims.count(claims) == size, do: Link.write_held(link, claims, held)
        Claims.worked(claims, reductions() - state.worked)
        ask(state)

      true ->
        work_in_batch(id, head, {:more, held}, state)
        held = Link.end_request(link, held)
        batch(rest, size, held, clean(state))
    end
  end

  defp work_in_batch(id, head, batch, %{link: link} = state) do
    Link.begin_request(link, id, batch)
    work(id, head, batch, state)
  end

  defp reductions, do: :erlang.process_info(self(), :reductions) |> elem(1)

  # The link changes with the port program. One that has ended meanwhile leaves a request that nobody waits for.
  defp linked(port, %{link: %{port: port}} = state), do: state
  defp linked(port, state), do: %{state | link: Link.fetch(state.server, port)}

  # ── one request ────────────────────────────────────────────────────────────────────────────────────

  defp work(id, head, batch, state) do
    request = Request.decode(id, head, self(), state.link)

    try do
      state.handler.(request)
    catch
      kind, reason -> crashed(kind, reason, __STACKTRACE__, request, batch)
    else
      _ -> returned(progress(request, batch), request)
    end
  end

  # Of one that has erased the process dictionary, the answer may still be held. To ask the server would be an end before it.
  defp progress(request, batch) do
    with progress when progress != :yes <- Response.forget(request),
         do: if(Link.holds_answer?(request.link, batch), do: :yes, else: progress)
  end

  defp returned(:yes, _request), do: :ok

  defp returned(_unknown, request) do
    case Link.ask(request.link, request.id, {:returned, self(), nil}) do
      {:error, :unanswered} ->
        Logger.error("#{line(request)}: the handler returned without an answer; the client got a 500")

      {:error, :unfinished} ->
        Logger.error(
          "#{line(request)}: the handler returned before it had finished its answer; the client was cut off"
        )

      _ended_or_in_other_hands ->
        :ok
    end
  end

  defp crashed(kind, reason, stacktrace, request, batch) do
    Logger.error("#{line(request)}: the handler failed\n" <> Exception.format(kind, reason, stacktrace),
      crash_reason: crash_reason(kind, reason, stacktrace)
    )

    if progress(request, batch) != :yes,
      do: Link.ask(request.link, request.id, {:returned, self(), {kind, reason, stacktrace}})
  end

  defp crash_reason(:throw, value, stacktrace), do: {{:nocatch, value}, stacktrace}
  defp crash_reason(_kind, reason, stacktrace), do: {reason, stacktrace}

  defp line(request), do: "#{request.method} #{request.path}"

  # ── between two requests ───────────────────────────────────────────────────────────────────────────

  defp clean(%{kept: kept} = state) do
    if Process.get() !== kept, do: restore(kept)
    Process.flag(:trap_exit, false) && exit(:shutdown)

    case :erlang.process_info(self(), [:links, :monitors]) do
      [links: [_pool], monitors: [_server]] -> forget(state)
      [links: links, monitors: [_server]] -> unlink(links, state)
      _what_only_the_handler_can_undo -> exit(:shutdown)
    end
  end

  defp restore(kept) do
    :erlang.erase()
    Enum.each(kept, fn {key, value} -> Process.put(key, value) end)
  end

  defp unlink(links, state) do
    Enum.each(List.delete(links, state.pool), &Process.unlink/1)
    forget(state)
  end

  # Nothing was asked for, so what is here is no request.
  defp forget(%{tag: tag} = state) do
    receive do
      {:"$gen_consumer", {_server, ^tag}, {:cancel, _reason}} -> exit(:shutdown)
      {:DOWN, ^tag, :process, _server, _reason} -> exit(:shutdown)
      :"$sparx_leave" -> forget(%{state | leaving: true})
      _left_behind -> forget(state)
    after
      0 -> state
    end
  end
end
