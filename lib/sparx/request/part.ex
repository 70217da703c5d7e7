# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Request.Part do
  @moduledoc false
  # `Sparx.Request.read_part/3`: reads a given number of bytes of a body and no more, with several chunks requested ahead.

  alias Sparx.{Link, Request}

  # The largest chunk of the port, and how many chunks are requested ahead.
  @most 65_000
  @prefetch 4

  @doc "Reads a part of a body that is not known to be empty."
  @spec read(Request.t(), pos_integer, timeout) ::
          {:ok | :more, binary, Request.t()} | {:error, :closed | :timeout}
  def read(%{inline: body} = request, length, _timeout) when is_binary(body) do
    part = Request.take_inline(request, length)
    # Another function may have read some of the body, so only a short part says where it ends.
    left = if byte_size(part) < length, do: 0, else: max(request.body - length, 0)
    {if(left == 0, do: :ok, else: :more), part, %{request | body: left}}
  end

  def read(request, length, timeout) do
    wanted = if is_integer(request.body), do: min(length, request.body), else: length
    take(%{request: request, timeout: timeout, wanted: wanted, parts: [], asked: :queue.new(), ahead: 0})
  end

  # `wanted`: bytes that have neither arrived nor been requested. `ahead`: chunks that were requested, each of the same maximum size.
  defp take(%{wanted: 0, ahead: 0, request: %{body: :unknown}} = part), do: look_behind(part)
  defp take(%{wanted: 0, ahead: 0} = part), do: taken(part, left(part))

  defp take(%{wanted: wanted, ahead: ahead} = part) when wanted > 0 and ahead < @prefetch do
    size = min(wanted, @most)

    if ahead == 0 or size == @most,
      do: take(ask_for(part, size)),
      else: take_next(part)
  end

  defp take(part), do: take_next(part)

  defp ask_for(%{request: request} = part, size) do
    asked = :queue.in({Request.read_chunk(request, max: size), size}, part.asked)
    %{part | asked: asked, ahead: part.ahead + 1, wanted: part.wanted - size}
  end

  defp take_next(%{request: request} = part) do
    {{:value, {ref, size}}, asked} = :queue.out(part.asked)
    all_asked = part.asked
    part = %{part | asked: asked, ahead: part.ahead - 1}

    case Link.await(request.link, request.id, ref, part.timeout) do
      {:ok, chunk} when byte_size(chunk) > size ->
        <<chunk::binary-size(size), rest::binary>> = chunk
        take(%{put_back(part, [rest]) | parts: [chunk | part.parts]})

      {:ok, chunk} ->
        take(%{part | parts: [chunk | part.parts], wanted: part.wanted + size - byte_size(chunk)})

      :eof ->
        taken(part, 0)

      # All at once: a chunk that arrives now would otherwise be put back behind those after it.
      :timeout ->
        put_back(%{part | asked: all_asked}, Enum.reverse(part.parts))
        {:error, :timeout}

      {:error, reason} ->
        put_back(part, Enum.reverse(part.parts))
        {:error, reason}
    end
  end

  # A chunk that was put back is returned as a whole. Chunks that were requested after it come after the part
  # that is put back.
  defp put_back(%{request: request} = part, chunks) do
    asked = :queue.to_list(part.asked)
    Request.cancel_chunks(request, for({ref, _size} <- asked, do: ref))
    if chunks != [], do: Link.tell(request.link, request.id, {:put_back, chunks})
    not_come = asked |> Enum.map(fn {_ref, size} -> size end) |> Enum.sum()
    %{part | asked: :queue.new(), ahead: 0, wanted: part.wanted + not_come}
  end

  defp look_behind(%{request: request} = part) do
    case Request.await_chunk(request, Request.read_chunk(request), part.timeout) do
      {:ok, chunk} ->
        part |> put_back([chunk]) |> taken(:unknown)

      :eof ->
        taken(part, 0)

      # The next chunk may take long to arrive, so the next read waits for it.
      {:error, :timeout} ->
        taken(part, :unknown)

      {:error, reason} ->
        {:error, reason}
    end
  end

  defp taken(part, left) do
    put_back(part, [])
    data = part.parts |> Enum.reverse() |> IO.iodata_to_binary()
    {if(left == 0, do: :ok, else: :more), data, %{part.request | body: left}}
  end

  defp left(%{request: request, parts: parts}), do: max(request.body - IO.iodata_length(parts), 0)
end
