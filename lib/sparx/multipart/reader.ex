# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Multipart.Reader do
  @moduledoc false
  # Turns the parser's events into a stream of parts, each with a stream of chunks.
  #
  # The streams share their position: it is in the process dictionary while the parts are read.

  alias Sparx.Multipart.Parser

  defstruct [:input, :parser, :failure, events: [], number: 0]

  @doc "The parts of `input`, an enumerable of binaries."
  @spec parts(Enumerable.t(), Parser.t()) :: Enumerable.t()
  def parts(input, parser) do
    Stream.resource(
      fn -> open(input, parser) end,
      fn key -> next_part(key, Process.get(key)) end,
      &close/1
    )
  end

  defp open(input, parser) do
    key = {__MODULE__, make_ref()}
    Process.put(key, %__MODULE__{input: suspended(input), parser: parser})
    key
  end

  # A function that returns one chunk at a time.
  defp suspended(input), do: &Enumerable.reduce(input, &1, fn chunk, _none -> {:suspend, chunk} end)

  defp close(key) do
    case Process.delete(key) do
      %{input: input} when input != nil -> input.({:halt, nil})
      _ended -> :ok
    end
  end

  defp next_part(key, reader) do
    case next(key, reader) do
      {{:part, part}, reader} ->
        reader = %{reader | number: reader.number + 1}
        Process.put(key, reader)
        {[%{part | body: body(key, reader.number)}], key}

      {:ended, reader} ->
        Process.put(key, reader)
        {:halt, key}

      {_what_was_not_read, reader} ->
        next_part(key, reader)
    end
  end

  defp body(key, number) do
    Stream.resource(
      fn -> number end,
      fn number -> next_chunk(key, Process.get(key), number) end,
      fn _number -> :ok end
    )
  end

  # Enumerating a body again after its end yields nothing.
  defp next_chunk(key, %{number: number} = reader, number) do
    case next(key, reader) do
      {{:data, data}, reader} ->
        Process.put(key, reader)
        {[data], number}

      {:part_end, reader} ->
        Process.put(key, %{reader | events: [:part_end | reader.events]})
        {:halt, number}
    end
  end

  defp next_chunk(_key, _reader, _number) do
    raise ArgumentError,
          "the body of a part must be read by the process that reads the parts, before it asks for the next part"
  end

  # A failure is raised again on each further read, so that a caller who rescued it cannot mistake the form for complete.
  defp next(_key, %{failure: failure}) when failure != nil, do: raise(failure)
  defp next(_key, %{events: [event | events]} = reader), do: {event, %{reader | events: events}}
  defp next(_key, %{input: nil} = reader), do: {:ended, reader}

  defp next(key, reader) do
    reader =
      try do
        advance(reader)
      rescue
        failure ->
          Process.put(key, %{reader | input: nil, failure: failure})
          reraise failure, __STACKTRACE__
      end

    next(key, reader)
  end

  defp advance(reader) do
    case reader.input.({:cont, nil}) do
      {:suspended, chunk, input} ->
        parsed(Parser.parse(reader.parser, chunk), %{reader | input: input})

      {_done_or_halted, _acc} ->
        with {:error, error} <- Parser.finish(reader.parser), do: raise(error)
        %{reader | input: nil}
    end
  end

  defp parsed({:ok, events, parser}, reader), do: %{reader | events: events, parser: parser}

  defp parsed({:error, error}, reader) do
    reader.input.({:halt, nil})
    raise error
  end
end
