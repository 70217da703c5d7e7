defmodule Sparx.Static.Sender do
  @moduledoc false
  # Sends what a plan says, out of a file that is open.

  alias Sparx.{Request, Response}
  alias Sparx.Static.Plan

  # What is shorter is read first, and sent as one message.
  @whole 65_536
  @chunk 65_536

  @doc "The file may be nil if nothing of it is sent."
  @spec send(Request.t(), Plan.t(), :file.fd() | nil) ::
          Response.result() | {:error, :truncated | File.posix()}
  def send(%{method: "HEAD"} = request, plan, _file) do
    plan |> response() |> Response.header("content-length", plan.length) |> Response.send(request)
  end

  def send(request, %{length: length} = plan, file) when length <= @whole do
    with {:ok, body} <- read_all(plan.body, file, []),
         do: plan |> response() |> Response.body(body) |> Response.send(request)
  end

  def send(request, plan, file) do
    with :ok <- Response.send_status(request, plan.status),
         :ok <- send_headers(request, [{"content-length", plan.length} | plan.headers]),
         :ok <- write_all(request, plan.body, file),
         do: Response.finish(request)
  end

  defp response(plan) do
    Enum.reduce(plan.headers, Response.new(plan.status), fn {name, value}, response ->
      Response.header(response, name, value)
    end)
  end

  defp read_all([], _file, taken), do: {:ok, taken}
  defp read_all([bytes | rest], file, taken) when is_binary(bytes), do: read_all(rest, file, [taken | bytes])

  defp read_all([{offset, length} | rest], file, taken) do
    case :file.pread(file, offset, length) do
      {:ok, bytes} when byte_size(bytes) == length -> read_all(rest, file, [taken | bytes])
      {:ok, _less} -> {:error, :truncated}
      :eof -> {:error, :truncated}
      error -> error
    end
  end

  defp send_headers(_request, []), do: :ok

  defp send_headers(request, [{name, value} | rest]) do
    with :ok <- Response.send_header(request, name, value), do: send_headers(request, rest)
  end

  defp write_all(_request, [], _file), do: :ok

  defp write_all(request, [bytes | rest], file) when is_binary(bytes) do
    with :ok <- Response.write_chunk(request, bytes), do: write_all(request, rest, file)
  end

  defp write_all(request, [{_offset, 0} | rest], file), do: write_all(request, rest, file)

  defp write_all(request, [{offset, length} | rest], file) do
    case :file.pread(file, offset, min(length, @chunk)) do
      {:ok, bytes} ->
        size = byte_size(bytes)

        with :ok <- Response.write_chunk(request, bytes),
             do: write_all(request, [{offset + size, length - size} | rest], file)

      :eof ->
        {:error, :truncated}

      error ->
        error
    end
  end
end
