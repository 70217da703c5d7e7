# SPDX-License-Identifier: Apache-2.0
# Compiles each Elixir block of the pages that are named, and runs each console block against the handler above it. Called by scripts/check_docs:
#
#     elixir -pa _build/dev/lib/sparx/ebin scripts/code_blocks.exs README.md docs/getting_started.md
#
# A block with `defmodule` is compiled as it is, one with `def` as a part of a module, any other as the body of a function that has `request`, `server`,
# `socket` and `conn`. A function of Sparx that does not exist is an error. In a console block, lines that begin with `$ ` are commands, the others are their output.
defmodule CodeBlocks do
  import ExUnit.CaptureIO

  def main(pages) do
    {:ok, _} = Application.ensure_all_started(:ex_unit)
    {:ok, _} = Application.ensure_all_started(:sparx)
    # Functions that blocks call often do not exist: only those of Sparx are checked.
    Code.compiler_options(ignore_module_conflict: true)

    case Enum.flat_map(pages, &page/1) do
      [] ->
        :ok

      errors ->
        IO.puts(Enum.join(errors, "\n"))
        System.halt(1)
    end
  end

  defp page(page) do
    {errors, _handler} =
      Enum.reduce(blocks(page), {[], nil}, fn {line, language, code}, {errors, handler} ->
        case block(language, code, handler) do
          {:ok, handler} -> {errors, handler}
          {:error, text} -> {["#{page}:#{line}: #{text}" | errors], handler}
        end
      end)

    Enum.reverse(errors)
  end

  defp blocks(page) do
    text = File.read!(page)

    for [{at, _}, {from, length}, {start, size}] <-
          Regex.scan(~r/^```(elixir|console)\n(.*?)^```$/ms, text, return: :index) do
      line = text |> binary_part(0, at) |> String.split("\n") |> length()
      {line, binary_part(text, from, length), binary_part(text, start, size)}
    end
  end

  # Returns the handler that later console blocks talk to.
  defp block("elixir", code, handler) do
    {compiled, printed} =
      with_io(:stderr, fn ->
        try do
          {:ok, code |> wrapped() |> Code.compile_string("block")}
        rescue
          error -> {:error, Exception.message(error)}
        end
      end)

    case {compiled, Regex.run(~r/^.*Sparx\.(?!Plug)[\w.]+\/\d+ is undefined.*$/m, printed)} do
      {{:ok, modules}, nil} -> {:ok, handler(modules) || handler}
      {{:ok, _modules}, [warning]} -> {:error, warning}
      {{:error, message}, _} -> {:error, message <> printed}
    end
  end

  defp block("console", _code, nil), do: {:error, "there is no handler above it"}

  defp block("console", code, handler) do
    {:ok, server} = Sparx.start_link(host: "127.0.0.1", port: 0, handler: handler)
    port = Sparx.info(server).port

    wrong =
      for [_, command, expected] <- Regex.scan(~r/^\$ ([^\n]*)\n((?:(?!\$ )[^\n]*\n)*)/m, code),
          command = String.replace(command, "localhost:4000", "127.0.0.1:#{port}"),
          {printed, _status} = System.cmd("sh", ["-c", "curl() { command curl --silent \"$@\"; }; " <> command]),
          String.trim(printed) != String.trim(expected),
          do: "#{command} prints #{inspect(printed)}"

    Supervisor.stop(server)
    if wrong == [], do: {:ok, handler}, else: {:error, Enum.join(wrong, "; ")}
  end

  defp wrapped(code) do
    name = "CodeBlocks.Block#{System.unique_integer([:positive])}"

    cond do
      code =~ ~r/^defmodule /m ->
        code

      code =~ ~r/^defp? /m ->
        "defmodule #{name} do\n#{code}\nend"

      true ->
        "defmodule #{name} do\nimport Config, warn: false\ndef run(request, server, socket, conn) do\n" <>
          "_ = {request, server, socket, conn}\n#{code}\nend\nend"
    end
  end

  defp handler(modules) do
    handlers = for {module, _binary} <- modules, function_exported?(module, :handle, 1), do: module
    List.last(handlers)
  end
end

CodeBlocks.main(System.argv())
