# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Examples.UploadFormTest do
  use ExUnit.Case, async: true

  alias Sparx.{Browser, Client}

  setup do: Sparx.Example.serve("upload_form.exs")

  defp sha256(body), do: Base.encode16(:crypto.hash(:sha256, body), case: :lower)

  defp form(port, body),
    do: Client.request(port, "POST", "/", [{"content-type", "multipart/form-data; boundary=B"}], body)

  test "has a page, and nothing else", %{port: port} do
    assert %{status: 200, body: "<!doctype html>" <> _} = Client.get(port, "/")
    assert %{status: 404} = Client.get(port, "/else")
    assert %{status: 405, headers: %{"allow" => "GET, POST"}} = Client.request(port, "PUT", "/")
  end

  test "tells the fields and the hashes of the files", %{port: port} do
    content = :crypto.strong_rand_bytes(300_000)

    body = [
      "--B\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\nhello\r\n",
      "--B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.bin\"\r\n\r\n",
      content,
      "\r\n--B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"\"\r\n\r\n\r\n--B--\r\n"
    ]

    assert %{status: 200, body: text} = form(port, body)
    assert text == ~s(field note "hello"\nfile "a.bin" 300000 bytes, sha256 #{sha256(content)}\n)
  end

  test "says what is wrong with a form", %{port: port} do
    assert %{status: 400, body: "the form ends before its last boundary\n"} = form(port, "--B\r\n")
    assert %{status: 415} = Client.request(port, "POST", "/", [], "hello")
  end

  @tag skip: Browser.skip()
  test "in a browser: files are chosen and sent, and the answer is shown", %{port: port} do
    browser = Browser.open("http://127.0.0.1:#{port}/")

    Browser.evaluate(browser, """
    (() => {
      const data = new DataTransfer();
      data.items.add(new File(["hello"], 'a "quoted" ä.txt'));
      data.items.add(new File([new Uint8Array(3000000)], "zeros.bin"));
      document.querySelector("input[type=file]").files = data.files;
      document.querySelector("input[type=file]").onchange();
      document.querySelector("[name=note]").value = "two files";
      document.querySelector("button").click();
    })()
    """)

    Browser.wait_for(browser, "!document.querySelector('#answer').hidden")

    assert Browser.evaluate(browser, "document.querySelector('#answer').textContent") ==
             """
             file "a \\"quoted\\" ä.txt" 5 bytes, sha256 #{sha256("hello")}
             file "zeros.bin" 3000000 bytes, sha256 #{sha256(<<0::24_000_000>>)}
             field note "two files"
             """
  end
end
