# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.DefaultPage do
  @moduledoc false
  # The page that `mix sparx.run` serves by default: it shows the figures of the server.
  #
  # A browser gets HTML; a client that does not ask for it, such as curl, gets plain text.

  use Sparx.Handler

  require EEx

  alias Sparx.{Request, Response}

  @template Path.expand("../../priv/default_page.html", __DIR__)
  @external_resource @template
  EEx.function_from_file(:defp, :html, @template, [:version, :figures])

  @impl true
  def handle(request), do: handle(request, request.link.server)

  @doc "The same for a given server, with all of its ports if it has several."
  @spec handle(Request.t(), Sparx.server()) :: term
  def handle(%{method: method} = request, _server) when method not in ["GET", "HEAD"] do
    answer(request, 405, "text/plain", "This page takes GET and HEAD.\n", [{"allow", "GET, HEAD"}])
  end

  def handle(%{path: "/"} = request, server) do
    figures = server |> Sparx.info() |> figures()

    if wants_html?(request),
      do: answer(request, 200, "text/html", html(version(), figures)),
      else: answer(request, 200, "text/plain", text(version(), figures))
  end

  def handle(request, _server), do: answer(request, 404, "text/plain", "There is only one page here: /\n")

  defp answer(request, status, type, body, headers \\ []) do
    fields = [{"content-type", type <> "; charset=utf-8"}, {"cache-control", "no-store"}, {"vary", "accept"}]

    Enum.reduce(fields ++ headers, Response.new(status), fn {name, value}, response ->
      Response.header(response, name, value)
    end)
    |> Response.body(body)
    |> Response.send(request)
  end

  defp wants_html?(request), do: String.contains?(Request.header(request, "accept", ""), "text/html")

  defp text(version, figures) do
    lines = for {label, value} <- figures, do: [String.pad_trailing(label, 24), value, ?\n]
    ["Sparx ", version, " is running.\n\n", lines]
  end

  defp version, do: to_string(Application.spec(:sparx, :vsn))

  # The result of Sparx.info/1 -> [{label, text}], in the order of the page
  defp figures(info) do
    [
      {"Requests", info |> total(:requests) |> count()},
      {"Open connections", info |> total(:connections) |> count()},
      {"Workers", info.ports |> Enum.map(& &1.subscriptions) |> Enum.sum() |> count()},
      {"VM memory", mebibytes(:erlang.memory(:total))},
      {"Port memory", info.ports |> Enum.map(&resident(&1.os_pid)) |> Enum.sum() |> mebibytes()},
      {"Running for", duration(div(elem(:erlang.statistics(:wall_clock), 0), 1_000))}
    ]
  end

  # A port that is being restarted has no figures.
  defp total(info, name), do: Enum.sum(for %{figures: %{^name => number}} <- info.ports, do: number)

  # Linux reports it in pages of 4 KiB; on other systems it is unknown.
  defp resident(os_pid) do
    case File.read("/proc/#{os_pid}/statm") do
      {:ok, text} -> text |> String.split() |> Enum.at(1) |> String.to_integer() |> Kernel.*(4_096)
      {:error, _not_there} -> 0
    end
  end

  defp mebibytes(bytes), do: :erlang.float_to_binary(bytes / 1_048_576, decimals: 1) <> " MiB"

  # 1234567 -> "1,234,567"
  defp count(number) do
    number
    |> Integer.to_charlist()
    |> Enum.reverse()
    |> Enum.chunk_every(3)
    |> Enum.intersperse(~c",")
    |> List.flatten()
    |> Enum.reverse()
    |> List.to_string()
  end

  @units [{86_400, "d"}, {3_600, "h"}, {60, "min"}, {1, "s"}]

  # The two largest units: "2 d 3 h", "4 min 10 s"
  defp duration(0), do: "0 s"

  defp duration(seconds) do
    {parts, 0} =
      Enum.map_reduce(@units, seconds, fn {size, _}, left -> {div(left, size), rem(left, size)} end)

    Enum.zip(parts, @units)
    |> Enum.drop_while(fn {part, _unit} -> part == 0 end)
    |> Enum.take(2)
    |> Enum.map_join(" ", fn {part, {_size, unit}} -> "#{part} #{unit}" end)
  end
end
