# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Examples.JsonApiTest do
  use ExUnit.Case

  alias Sparx.Client

  setup do: Sparx.Example.serve("json_api.exs")

  defp call(port, method, path, body \\ ""), do: Client.request(port, method, path, [], body)

  test "keeps a note from POST to DELETE", %{port: port} do
    created = call(port, "POST", "/notes", ~s({"text": "buy \\"milk\\" \\u00e9"}))
    assert created.status == 201
    assert created.headers["content-type"] == "application/json"
    "/notes/" <> id = location = created.headers["location"]
    note = ~s({"id":#{id},"text":"buy \\"milk\\" é"})
    assert created.body == note <> "\n"

    assert call(port, "GET", location).body == note <> "\n"
    assert call(port, "GET", "/notes").body =~ note
    assert call(port, "HEAD", location).status == 200

    assert call(port, "PUT", location, ~s({"text":"buy oat milk"})).status == 200
    assert call(port, "GET", location).body == ~s({"id":#{id},"text":"buy oat milk"}\n)

    deleted = call(port, "DELETE", location)
    assert deleted.status == 204
    assert deleted.body == ""
    assert call(port, "GET", location).status == 404
  end

  test "answers 404 where there is nothing", %{port: port} do
    for path <- ["/nothing", "/notes/0", "/notes/x", "/notes/1/2"] do
      answer = call(port, "GET", path)
      assert answer.status == 404
      assert answer.body == ~s({"error":"there is nothing here"}\n)
    end
  end

  test "answers 405 with what is allowed", %{port: port} do
    answer = call(port, "DELETE", "/notes")
    assert answer.status == 405
    assert answer.headers["allow"] == "GET, HEAD, POST"
  end

  test "answers 400 to what is no note", %{port: port} do
    for body <- ["", "{", "[]", ~s({"text":1}), ~s({"text":""}), ~s({"text":"a"}x), <<255>>] do
      assert call(port, "POST", "/notes", body).status == 400
    end
  end

  test "answers 413 to a body that is too large", %{port: port} do
    body = ~s({"text":") <> String.duplicate("a", 70_000) <> ~s("})
    assert call(port, "POST", "/notes", body).status == 413
  end
end
