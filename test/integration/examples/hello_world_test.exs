# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Examples.HelloWorldTest do
  use ExUnit.Case

  alias Sparx.Client

  setup do: Sparx.Example.serve("hello_world.exs")

  test "says hello", %{port: port} do
    answer = Client.get(port, "/")
    assert answer.status == 200
    assert answer.body == "Hello, world!\n"
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["server"] == "sparx"
  end

  test "says nothing to HEAD, but how much it would have been", %{port: port} do
    answer = Client.request(port, "HEAD", "/")
    assert answer.status == 200
    assert answer.body == ""
    assert answer.headers["content-length"] == "14"
  end
end
