# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Worker do
  @moduledoc false
  # The process of one request: it is started for the request, and ends with it, together with everything that its
  # handler has left behind.
  #
  # Its starter monitors it: the server for its own slots, Sparx.Workers on other nodes. The starter cleans up, since it always
  # notices the end. The process itself reports only that the handler failed, and the logged reason, since its end
  # does not show that.

  alias Sparx.{Answer, BodyError, Frame, Link, Request}
  alias Sparx.Server.SharedTerms

  require Logger

  # The initial heap in words: most handlers end before they have filled it; a plug with its conn needs more.
  @heap 610
  @heap_of_a_plug 2_586

  @typedoc "What all handlers of a port program are given: its link, and what serves its requests."
  @type job :: %{
          link: Link.t(),
          handler: (Request.t() -> term),
          ancestors: [pid | atom],
          callers: [pid],
          log_client_closures: boolean,
          heap: pos_integer
        }

  @doc """
  The processes of this port program's requests find their job by its port: a job is large, and each would get a copy of it.
  """
  @spec publish(job, port | pid) :: :ok
  def publish(job, port), do: SharedTerms.put(:job, port, job)

  @doc "The port program has ended."
  @spec retire(port | pid) :: boolean
  def retire(port), do: SharedTerms.erase(:job, port)

  @doc """
  Starts the process of a request, with a job or the port of a published one, and an initial heap of `heap` words. At its end the
  caller gets `{tag, monitor, :process, pid, reason}`.
  """
  @spec spawn(
          Frame.stream(),
          binary,
          binary | nil,
          Answer.t() | nil,
          job | port | pid,
          pos_integer,
          tag :: term
        ) :: pid
  def spawn(id, head, body, answer, job, heap, tag) do
    arguments = [id, head, body, answer, job]

    {pid, _monitor} = :erlang.spawn_opt(__MODULE__, :run, arguments, min_heap_size: heap, monitor: [tag: tag])

    pid
  end

  @doc "The initial heap of each handler, in words."
  @spec heap(Sparx.Config.t()) :: pos_integer
  def heap(%{plug: nil}), do: @heap
  def heap(_of_a_plug), do: @heap_of_a_plug

  @doc false
  def run(id, head, body, answer, %{} = job), do: serve(id, head, body, answer, job)

  def run(id, head, body, answer, port) do
    case SharedTerms.get(:job, port) do
      # The port program has ended, and nobody waits for the answer.
      nil -> :ok
      job -> serve(id, head, body, answer, job)
    end
  end

  defp serve(id, head, body, answer, job) do
    Process.put(:"$ancestors", job.ancestors)
    Process.put(:"$callers", job.callers)
    request = id |> decode(head, answer, job.link) |> Request.with_body(body)

    try do
      job.handler.(request)
    catch
      :exit, reason when reason in [:normal, :shutdown] -> exit(reason)
      :throw, {:"$sparx_logged", kind, reason, stacktrace} -> fail(kind, reason, stacktrace, request, job)
      kind, reason -> failed(kind, reason, __STACKTRACE__, request, job)
    end
  end

  @doc """
  Ends a handler that has failed and has logged the failure itself. Its client gets a 500, if there is no answer yet.
  """
  @spec give_up(:error | :exit | :throw, term, Exception.stacktrace()) :: no_return
  def give_up(kind, reason, stacktrace), do: throw({:"$sparx_logged", kind, reason, stacktrace})

  defp decode(id, head, answer, link) do
    Request.decode(id, head, answer, self(), link)
  catch
    {:malformed, what} ->
      send(link.server, {:"$sparx_violation", link.port, "the head of a REQUEST: #{what}"})
      exit(:normal)
  end

  @spec failed(:error | :exit | :throw, term, Exception.stacktrace(), Request.t(), job) :: no_return
  defp failed(kind, reason, stacktrace, request, job) do
    log(kind, reason, stacktrace, request, job)
    fail(kind, reason, stacktrace, request, job)
  end

  # Like OTP's own processes, it exits with the reason, so that linked processes end too.
  @spec fail(:error | :exit | :throw, term, Exception.stacktrace(), Request.t(), job) :: no_return
  defp fail(kind, reason, stacktrace, request, job) do
    send(job.link.slots, {:"$sparx_failed", job.link.port, request.id, {kind, reason, stacktrace}})
    exit(exit_reason(kind, reason, stacktrace))
  end

  defp exit_reason(:exit, reason, _stacktrace), do: reason
  defp exit_reason(:error, reason, stacktrace), do: {reason, stacktrace}
  defp exit_reason(:throw, value, stacktrace), do: {{:nocatch, value}, stacktrace}

  # A client that leaves is not an error of the handler, even if the handler fails because of it.
  defp log(kind, reason, stacktrace, request, job) do
    cond do
      not client_left?(reason, request) ->
        Logger.error(
          "#{line(request)}: the handler failed\n" <> Exception.format(kind, reason, stacktrace),
          crash_reason: crash_reason(kind, reason, stacktrace)
        )

      job.log_client_closures ->
        Logger.info("#{line(request)}: the client has left")

      true ->
        :ok
    end
  end

  @doc "Whether a handler has failed because its client has left."
  @spec client_left?(term, Request.t()) :: boolean
  def client_left?(%BodyError{}, _request), do: true

  def client_left?(%MatchError{term: {:error, reason}}, request) when reason in [:closed, :timeout],
    do: Link.answer(request.link, request.id, request.answer, :phase) in [:over, {:error, :closed}]

  def client_left?({:badmatch, term}, request), do: client_left?(%MatchError{term: term}, request)
  def client_left?(_other, _request), do: false

  defp crash_reason(:throw, value, stacktrace), do: {{:nocatch, value}, stacktrace}
  defp crash_reason(_kind, reason, stacktrace), do: {reason, stacktrace}

  @doc "The request as a log line names it."
  @spec line(Request.t()) :: binary
  def line(request), do: "#{request.method} #{request.path}"
end
