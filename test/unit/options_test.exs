# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.OptionsTest do
  @moduledoc "A bound that is misspelt is not silently the default, and of one that is given twice the first value counts: wherever options are taken."
  use ExUnit.Case, async: true

  alias Sparx.{Form, Multipart, Request, Static, WebSocket}

  @request %Request{method: "POST", body: 5, head: <<>>}

  for {name, call} <- [
        {"Request.read_body/2", &Request.read_body/2},
        {"Request.body_stream/2", &Request.body_stream/2},
        {"Form.read/2", &Form.read/2},
        {"Multipart.parts/2", &Multipart.parts/2},
        {"Multipart.save/2", &Multipart.save/2}
      ] do
    test name do
      call = unquote(call)

      assert_raise ArgumentError, "unknown option :no_such_option", fn ->
        call.(@request, no_such_option: 1)
      end
    end
  end

  test "Form.decode/2" do
    assert_raise ArgumentError, "unknown option :max_field; did you mean :max_fields?", fn ->
      Form.decode("a=1", max_field: 1)
    end

    assert {:error, _too_large} = Form.decode("a=1&b=2", max_fields: 1, max_fields: 2)
    assert {:ok, _form} = Form.decode("a=1&b=2", max_fields: 2, max_fields: 1)
  end

  test "a body" do
    assert {:error, :too_large} = Request.read_body(@request, limit: 4, limit: 5)
  end

  test "Static.serve/3" do
    assert_raise ArgumentError, "unknown option :no_such_option", fn ->
      Static.serve(@request, ".", no_such_option: 1)
    end
  end

  test "a WebSocket's" do
    assert %{port: %{prefetch: 2}} = WebSocket.Options.new!(prefetch: 2, prefetch: 3)

    assert %{port: %{compress: %{level: 1}}} =
             WebSocket.Options.new!(compress: [level: 1, level: 2], compress: false)

    assert_raise ArgumentError, "unknown option :prefetsh of a WebSocket", fn ->
      WebSocket.Options.new!(prefetsh: 1)
    end
  end
end
