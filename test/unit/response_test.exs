# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.ResponseTest do
  use ExUnit.Case, async: true

  alias Sparx.{Answer, Link, Request, Response}

  # A request whose port is this process.
  defp request(method \\ "GET") do
    link = %Link{
      server: self(),
      slots: self(),
      port: self(),
      window: 1_000,
      max_frame: 100_000,
      write_timeout: 20
    }

    %Request{id: 1, method: method, owner: self(), link: link, answer: Answer.new(1_000)}
  end

  test "a response made by hand is checked like one of the builder" do
    assert_raise ArgumentError, ~r/control characters/, fn ->
      Response.send(%Response{headers: [{"a", "b\r\nset-cookie: x"}]}, request())
    end

    assert_raise ArgumentError, ~r/transfer-encoding/, fn ->
      Response.send(%Response{headers: [{"transfer-encoding", "chunked"}]}, request())
    end

    assert_raise ArgumentError, ~r/status/, fn -> Response.send(%Response{status: 99}, request()) end
    assert_raise ArgumentError, ~r/status/, fn -> Response.send(%Response{status: "200"}, request()) end

    changed = Response.new(200) |> Response.header("a", "b") |> Map.update!(:headers, &[{"x y", "z"} | &1])
    assert_raise ArgumentError, ~r/a token/, fn -> Response.send(changed, request()) end
    later = changed |> Map.put(:headers, [{"c", "d"}]) |> Response.header("e", "f")
    assert Response.send(later, request()) == :ok
    assert_receive {:"$sparx_write", _port, message}
    assert message =~ "c" and message =~ "e"
  end

  test "defaults are not sent" do
    response = Response.new(200) |> Response.header("connection", "keep-alive") |> Response.header("a", "b")
    assert response.headers == [{"a", "b"}]
  end

  test "a body that is not sent does not cross the pipe" do
    response = Response.new(200) |> Response.body("a body of known length")
    assert Response.send(response, request("HEAD")) == :ok
    assert_receive {:"$sparx_write", _port, message}
    refute message =~ "length"
    assert Response.send(%{response | status: 204}, request()) == :ok
    assert_receive {:"$sparx_write", _port, message}
    refute message =~ "length"
  end
end
