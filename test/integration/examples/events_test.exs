# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Examples.EventsTest do
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog

  alias Sparx.{Browser, Client}

  setup do: Sparx.Example.serve("events.exs")

  # Reads `count` events: {id, data}.
  defp events(port, count, headers \\ []) do
    socket = Client.connect(port)
    Client.send(socket, Client.head("GET", "/events", headers))
    {:ok, 200, %{"content-type" => "text/event-stream"}} = Client.head_of(socket)
    events = take(socket, count, "")
    Client.close(socket)
    events
  end

  defp take(socket, count, text) do
    events =
      for [_, id, data] <- Regex.scan(~r/id: (\d+)\nevent: pulse\ndata: (.*)\n\n/, text),
          do: {String.to_integer(id), data}

    if length(events) >= count do
      events
    else
      {:ok, more} = :gen_tcp.recv(socket, 0, 60_000)
      take(socket, count, text <> String.replace(more, ~r/^[0-9a-f]+\r\n|\r\n/m, ""))
    end
  end

  test "has a page, and nothing else", %{port: port} do
    assert %{status: 200, body: "<!doctype html>" <> _} = Client.get(port, "/")
    assert %{status: 404} = Client.get(port, "/else")
  end

  test "tells what is measured, and to who comes back what was missed", %{port: port} do
    [{first, data} | _] = events(port, 2)
    assert data =~ ~r/^{"reductions":\d+,"memory":\d+,"processes":\d+}$/
    [{next, _} | _] = events(port, 2, [{"last-event-id", "#{first}"}])
    assert next == first + 1
    assert [_ | _] = events(port, 1, [{"last-event-id", "nonsense"}])
  end

  @tag skip: Browser.skip()
  test "in a browser: the page draws, and goes on when the connection was lost", %{port: port, server: server} do
    browser = Browser.open("http://127.0.0.1:#{port}/")
    drawn = "document.querySelector('.curve').getAttribute('d')?.split('L').length"
    Browser.wait_for(browser, drawn <> " >= 5")
    assert Browser.evaluate(browser, "document.querySelector('#state').textContent") == "connected"

    capture_log(fn ->
      %{ports: [%{os_pid: os_pid}]} = Sparx.info(server)
      System.cmd("kill", ["-9", "#{os_pid}"])
      Browser.wait_for(browser, "document.querySelector('#state').textContent === 'connecting again'")
      Browser.wait_for(browser, "document.querySelector('#state').textContent === 'connected'")
      had = browser |> Browser.evaluate(drawn) |> String.to_integer()
      Browser.wait_for(browser, drawn <> " >= #{had + 3}")
    end)
  end
end
