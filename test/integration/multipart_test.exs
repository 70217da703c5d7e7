# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Integration.MultipartTest do
  @moduledoc """
  Forms over a real port program, from the clients that are installed on this machine.

  Not async: memory is measured.
  """
  use ExUnit.Case, async: false

  import Sparx.Await

  alias Sparx.{Browser, Client, Form, FormError, Multipart, Request, Response}

  @clients Path.expand("../support/clients", __DIR__)
  @type_header {"content-type", "multipart/form-data; boundary=B"}
  @block :binary.copy("0123456789abcdef", 4096)

  setup do
    folder =
      Path.join(System.tmp_dir!(), "sparx-multipart-#{System.unique_integer([:positive])}-#{System.pid()}")

    File.mkdir_p!(folder)
    on_exit(fn -> File.rm_rf!(folder) end)
    %{folder: folder}
  end

  defp serve(handler),
    do: start_supervised!({Sparx, host: "127.0.0.1", port: 0, workers: 8, handler: handler})

  defp answer(request, status, text) do
    Response.new(status)
    |> Response.header("content-type", "text/plain; charset=utf-8")
    |> Response.body(text)
    |> Response.send(request)
  end

  # Says what it got, line by line.
  defp teller(folder) do
    fn request ->
      case Request.header(request, "content-type", "") do
        "multipart/" <> _ -> tell(request, Multipart.save(request, folder: folder))
        _ -> tell(request, Form.read(request, []))
      end
    end
  end

  defp tell(request, {:ok, form}), do: answer(request, 200, lines(form))
  defp tell(request, {:error, %FormError{} = error}), do: answer(request, error.status, error.message)

  defp lines(%{fields: fields, files: files}) do
    [
      for({name, value} <- fields, do: "field #{name} #{inspect(value)}\n"),
      for file <- files do
        assert File.stat!(file.path).size == file.size
        "file #{file.name} #{inspect(file.filename)} #{inspect(file.content_type)} #{file.size}\n"
      end
    ]
  end

  defp lines(form), do: for({name, value} <- form, do: "form #{name} #{inspect(value)}\n")

  defp post(server, body, headers \\ [@type_header]), do: Client.request(server, "POST", "/", headers, body)

  defp file(name, filename, content) do
    [
      "--B\r\nContent-Disposition: form-data; name=\"#{name}\"; filename=\"#{filename}\"\r\n\r\n",
      content,
      "\r\n"
    ]
  end

  defp field(name, value), do: "--B\r\nContent-Disposition: form-data; name=\"#{name}\"\r\n\r\n#{value}\r\n"

  # A process of the server ends at its own time.
  defp until_empty(folder), do: await(fn -> File.ls!(folder) == [] end)

  describe "save/2" do
    test "reads fields and files, which only the user can read, and which go with the process", %{
      folder: folder
    } do
      test = self()

      server =
        serve(fn request ->
          # Any process may read; this one lives until the test lets it go.
          task = Task.async(fn -> save_and_wait(request, folder, test) end)
          answer(request, 200, Task.await(task, 60_000))
        end)

      socket = Client.connect(server)
      body = [field("a", "x"), file("f", "g", @block), file("f", "", ""), file("h", "", "y"), "--B--"]
      length = {"content-length", IO.iodata_length(body)}
      Client.send(socket, [Client.head("POST", "/", [@type_header, length]), body])
      assert_receive {:saved, pid, form, contents}
      assert form.fields == [{"a", "x"}]

      assert [
               %Multipart.Upload{name: "f", filename: "g", size: 65_536, content_type: nil},
               %Multipart.Upload{name: "h", filename: "", size: 1}
             ] = form.files

      assert contents == [@block, "y"]
      [place] = File.ls!(folder)
      assert Bitwise.band(File.stat!(Path.join(folder, place)).mode, 0o777) == 0o700
      send(pid, :go)
      assert %{status: 200, body: "done"} = Client.answer(socket)
      until_empty(folder)
    end

    defp save_and_wait(request, folder, test) do
      {:ok, form} = Multipart.save(request, folder: folder)
      send(test, {:saved, self(), form, for(file <- form.files, do: File.read!(file.path))})
      receive do: (:go -> "done")
    end

    test "removes the files at once when there is an error", %{folder: folder} do
      server =
        serve(fn request ->
          {:error, error} = Multipart.save(request, folder: folder, max_file: 70_000, max_field: 10)
          answer(request, error.status, "#{length(File.ls!(folder))} #{error.message}")
        end)

      file = file("f", "g", @block)

      for {status, message, body} <- [
            {400, "the form ends before its last boundary", file},
            {400, "a part has no name", [file, "--B\r\nContent-Disposition: form-data\r\n\r\n\r\n--B--"]},
            {413, "a file has more than 70000 bytes", [file, file("g", "g", [@block, @block]), "--B--"]},
            {413, "a field has more than 10 bytes", [file, field("a", "12345678901"), "--B--"]}
          ] do
        text = "0 " <> message
        assert %{status: ^status, body: ^text} = post(server, body)
      end
    end

    test "tells what the file system says" do
      server = serve(&tell(&1, Multipart.save(&1, folder: "/proc/nowhere")))

      assert %{status: 500, body: "a file could not be stored: " <> _} =
               post(server, [file("f", "g", "x"), "--B--"])

      assert %{status: 200, body: "field a \"x\"\n"} = post(server, [field("a", "x"), "--B--"])
    end

    test "does not read a body whose length is too large, or whose type is another", %{folder: folder} do
      server = serve(&tell(&1, Multipart.save(&1, folder: folder, limit: 100)))
      socket = Client.connect(server)
      expect = [{"expect", "100-continue"}, {"content-length", 101}]
      Client.send(socket, Client.head("POST", "/", [@type_header | expect]))
      assert %{status: 413, body: "the form has more than 100 bytes"} = Client.answer(socket)
      assert %{status: 415} = post(server, "x", [{"content-type", "text/plain"}])
      assert %{status: 415} = post(server, "x", [])
      assert %{status: 400} = post(server, "x", [{"content-type", "multipart/form-data"}])
    end

    test "says when the client does not send in time, or leaves", %{folder: folder} do
      test = self()

      server =
        serve(fn request ->
          timeout = if request.path == "/slow", do: 100, else: 60_000
          {:error, error} = Multipart.save(request, folder: folder, timeout: timeout)
          send(test, {:reason, error.reason, File.ls!(folder)})
          answer(request, error.status, "")
        end)

      begin = fn path ->
        socket = Client.connect(server)
        body = file("f", "g", @block)
        Client.send(socket, [Client.head("POST", path, [@type_header, {"content-length", 1_000_000}]), body])
        socket
      end

      slow = begin.("/slow")
      assert_receive {:reason, :timeout, []}
      assert %{status: 408} = Client.answer(slow)
      Client.close(begin.("/"))
      assert_receive {:reason, :closed, []}
    end
  end

  describe "parts/2" do
    test "reads the client as fast as the parts are consumed, and holds nothing of a large file" do
      test = self()

      server =
        serve(fn request ->
          [part] = Enum.map(Multipart.parts(request, limit: 1_000_000_000), &measured(&1, test))
          answer(request, 200, "#{part.name} #{Process.get(:bytes)}")
        end)

      socket = Client.connect(server)
      Client.send(socket, Client.head("POST", "/", [@type_header, {"transfer-encoding", "chunked"}]))
      chunk = fn data -> [Integer.to_string(IO.iodata_length(data), 16), "\r\n", data, "\r\n"] end
      head = "--B\r\nContent-Disposition: form-data; name=\"f\"; filename=\"g\"\r\n\r\n"
      Client.send(socket, chunk.(head))
      for _ <- 1..1_600, do: Client.send(socket, chunk.(@block))
      Client.send(socket, [chunk.("\r\n--B--\r\n"), "0\r\n\r\n"])
      assert %{status: 200, body: "f 104857600"} = Client.answer(socket)
      assert_received {:most, most}
      assert most < 4_000_000
    end

    defp measured(part, test) do
      {bytes, most} =
        Enum.reduce(part.body, {0, 0}, fn chunk, {bytes, most} ->
          {:binary, held} = Process.info(self(), :binary)
          held = held |> Enum.uniq_by(&elem(&1, 0)) |> Enum.reduce(0, &(elem(&1, 1) + &2))
          {bytes + byte_size(chunk), max(most, held)}
        end)

      Process.put(:bytes, bytes)
      send(test, {:most, most})
      part
    end

    test "raises for a body of another type" do
      test = self()

      server =
        serve(fn request ->
          send(test, {:error, catch_error(Multipart.parts(request))})
          answer(request, 200, "")
        end)

      post(server, "x", [{"content-type", "text/plain"}])
      assert_receive {:error, %FormError{reason: :unsupported}}
    end

    test "refuses bounds that are none" do
      for bound <- [limit: -1, max_parts: :infinity, max_file: nil, max_field: "1"] do
        assert_raise ArgumentError, fn -> Multipart.parts(%Request{head: <<0x90>>}, [bound]) end
      end
    end
  end

  describe "clients" do
    defp run(program, arguments) do
      {output, status} = System.cmd(program, arguments, stderr_to_stdout: true)
      assert {output, status} == {"", 0}
    end

    @tag skip: Sparx.Needs.command("curl")
    test "curl", %{folder: folder} do
      port = Sparx.info(serve(teller(folder))).port
      path = Path.join(folder, "sent")
      File.write!(path, @block)
      url = "http://127.0.0.1:#{port}/"

      {text, 0} =
        System.cmd("curl", ~w(-sS -F a=x -F e=;type=text/plain -F) ++ [~s(f=@#{path};filename="a\\"b"), url])

      assert text == ~s(field a "x"\nfield e ""\nfile f "a\\"b" "application/octet-stream" 65536\n)

      {text, 0} = System.cmd("curl", ~w(-sS --data-urlencode) ++ ["a=x &=", "-d", "b=c", url])
      assert text == ~s(form a "x &="\nform b "c"\n)

      {text, 0} = System.cmd("curl", ~w(-sS -H Transfer-Encoding:chunked -F f=@#{path} #{url}))
      assert text == ~s(file f "sent" "application/octet-stream" 65536\n)
    end

    @python Sparx.Kit.python()
    @tag skip: Sparx.Needs.python("requests", "python3-requests")
    test "Python's requests", %{folder: folder} do
      port = Sparx.info(serve(teller(folder))).port
      run(@python, [Path.join(@clients, "form_client.py"), "#{port}"])
    end

    @tag skip: Sparx.Needs.command("node", "nodejs")
    test "Node's fetch", %{folder: folder} do
      port = Sparx.info(serve(teller(folder))).port
      # Node 18 warns of its own File
      run("node", ["--no-warnings", Path.join(@clients, "form_client.js"), "#{port}"])
    end

    @tag skip: Browser.skip()
    test "Chromium: forms that it sends by itself, and by fetch", %{folder: folder} do
      teller = teller(folder)

      page = """
      <form method=post enctype=multipart/form-data action=/form>
      <input name='a"b' value="ä"><textarea name=t>1\n2</textarea><input type=file name=none><input type=file name=f>
      </form>
      """

      server =
        serve(fn
          %{method: "GET", path: "/"} = request ->
            Response.new(200)
            |> Response.header("content-type", "text/html; charset=utf-8")
            |> Response.body(page)
            |> Response.send(request)

          request ->
            teller.(request)
        end)

      browser = Browser.open("http://127.0.0.1:#{Sparx.info(server).port}/")
      fetch = &"fetch('/', {method: 'POST', body: #{&1}}).then((answer) => answer.text())"
      assert Browser.evaluate(browser, fetch.("new FormData()")) == ""
      assert Browser.evaluate(browser, fetch.("new URLSearchParams({a: 'ä &+'})")) == ~s(form a "ä &+"\n)

      Browser.evaluate(browser, """
      (() => {
        const data = new DataTransfer();
        data.items.add(new File(["hello"], 'x\\\\y "ä".txt'));
        document.querySelector("[name=f]").files = data.files;
        document.forms[0].submit();
      })()
      """)

      Browser.wait_for(browser, "location.pathname === '/form' && document.readyState === 'complete'")
      text = Browser.evaluate(browser, "document.body.textContent")
      assert text =~ ~S(field a"b "ä")
      assert text =~ ~S(field t "1\r\n2")
      assert text =~ ~S(file f "y \"ä\".txt" "application/octet-stream" 5)
      refute text =~ "none"
    end
  end
end
