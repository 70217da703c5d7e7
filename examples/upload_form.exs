# SPDX-License-Identifier: Apache-2.0
# A page that uploads files: a form, multipart/form-data, any size in constant memory. Each file is hashed as it comes.
#
#     mix sparx.run examples/upload_form.exs
#     open http://localhost:4000/, or: curl -F note=hello -F file=@some.file http://localhost:4000/
#
defmodule UploadForm do
  use Sparx.Handler

  alias Sparx.{FormError, Multipart, Response}

  def handle(%{path: "/", method: "GET"} = request) do
    Response.new(200)
    |> Response.header("content-type", "text/html; charset=utf-8")
    |> Response.header("content-security-policy", "default-src 'self' 'unsafe-inline'; base-uri 'none'")
    |> Response.body(page())
    |> Response.send(request)
  end

  def handle(%{path: "/", method: "POST"} = request) do
    lines = for part <- Multipart.parts(request, limit: 10_000_000_000), do: line(part)
    reply(request, 200, lines)
  rescue
    error in FormError -> reply(request, error.status, [error.message, "\n"])
  end

  def handle(%{path: "/"} = request), do: reply(request, 405, "GET or POST\n", [{"allow", "GET, POST"}])
  def handle(request), do: reply(request, 404, "Not found\n")

  # A file input without a chosen file arrives as a file without a name.
  defp line(%{filename: ""}), do: []

  defp line(%{filename: nil} = part),
    do: ["field ", part.name, " ", part.body |> Enum.join() |> inspect(), "\n"]

  defp line(part) do
    {bytes, hash} =
      Enum.reduce(part.body, {0, :crypto.hash_init(:sha256)}, fn chunk, {bytes, hash} ->
        {bytes + byte_size(chunk), :crypto.hash_update(hash, chunk)}
      end)

    sha256 = hash |> :crypto.hash_final() |> Base.encode16(case: :lower)
    ["file ", inspect(part.filename), " #{bytes} bytes, sha256 #{sha256}\n"]
  end

  defp reply(request, status, text, headers \\ []) do
    response =
      Response.new(status)
      |> Response.header("content-type", "text/plain; charset=utf-8")
      |> Response.body(text)

    Enum.reduce(headers, response, fn {name, value}, response -> Response.header(response, name, value) end)
    |> Response.send(request)
  end

  defp page do
    ~S"""
    <!doctype html>
    <html lang="en">
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <title>Upload</title>
    <style>
      :root { color-scheme: light dark; --ink: #1c2733; --paper: #f5f3ee; --card: #fffdf9; --line: #d5cfc2; --accent: #1f7a4d; --quiet: #756f63; --bad: #a8321f; }
      @media (prefers-color-scheme: dark) { :root { --ink: #e8e4da; --paper: #16191d; --card: #1f242a; --line: #39414a; --accent: #5fc592; --quiet: #98a09b; --bad: #f08d79; } }
      * { box-sizing: border-box; }
      body { margin: 0 auto; max-width: 44rem; padding: 2.5rem 1rem; font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); }
      h1 { margin: 0 0 1.2rem; font-size: 1.5rem; letter-spacing: -.01em; }
      form { display: grid; gap: 1rem; }
      #drop { display: grid; align-content: center; justify-items: center; gap: .3rem; min-height: 11rem; padding: 1.5rem; text-align: center; border: 2px dashed var(--line); border-radius: 1rem; background: var(--card); cursor: pointer; }
      #drop.over, #drop:focus-within { border-color: var(--accent); }
      #drop b { color: var(--accent); }
      #drop small { color: var(--quiet); }
      #drop input { position: absolute; opacity: 0; width: 1px; }
      .row { display: flex; gap: .6rem; }
      input[type=text], button { font: inherit; border-radius: .8rem; border: 1px solid var(--line); padding: .6rem .9rem; }
      input[type=text] { flex: 1; min-width: 0; color: inherit; background: var(--card); }
      button { border-color: transparent; background: var(--accent); color: var(--card); font-weight: 600; cursor: pointer; }
      button:disabled { opacity: .5; cursor: default; }
      progress { width: 100%; accent-color: var(--accent); }
      pre { margin: 1.2rem 0 0; padding: 1rem; overflow-x: auto; white-space: pre-wrap; overflow-wrap: anywhere; font-size: .85rem; border: 1px solid var(--line); border-radius: .8rem; background: var(--card); }
      pre.bad { color: var(--bad); }
      [hidden] { display: none; }
      :focus-visible { outline: 2px solid var(--accent); outline-offset: 1px; }
    </style>
    <h1>Upload</h1>
    <form action="/" method="post" enctype="multipart/form-data">
      <label id="drop"><input type="file" name="file" multiple><span><b>Choose files</b>, or drop them here</span><small id="chosen">none chosen</small></label>
      <div class="row"><input type="text" name="note" placeholder="A note" aria-label="A note"><button>Upload</button></div>
      <progress hidden max="1" value="0"></progress>
    </form>
    <pre id="answer" role="status" hidden></pre>
    <script>
      const $ = (selector) => document.querySelector(selector);
      const files = $("input[type=file]"), drop = $("#drop"), bar = $("progress");
      const size = (bytes) => bytes < 1e3 ? bytes + " B" : bytes < 1e6 ? (bytes / 1e3).toFixed(1) + " kB" : (bytes / 1e6).toFixed(1) + " MB";

      files.onchange = () => {
        $("#chosen").textContent = [...files.files].map((file) => `${file.name} (${size(file.size)})`).join(", ") || "none chosen";
      };
      for (const kind of ["dragover", "dragleave", "drop"]) drop.addEventListener(kind, (event) => {
        event.preventDefault();
        drop.classList.toggle("over", kind === "dragover");
        if (kind === "drop") { files.files = event.dataTransfer.files; files.onchange(); }
      });

      function show(text, good) {
        bar.hidden = true;
        $("button").disabled = false;
        Object.assign($("#answer"), {textContent: text, className: good ? "" : "bad", hidden: false});
      }

      $("form").onsubmit = (event) => {
        event.preventDefault();
        const request = new XMLHttpRequest(); // fetch does not tell how far an upload is
        request.upload.onprogress = ({loaded, total}) => { bar.value = loaded / total; };
        request.onload = () => show(request.responseText, request.status === 200);
        request.onerror = () => show("The connection was lost.", false);
        request.open("POST", "/");
        request.send(new FormData($("form")));
        bar.hidden = false;
        bar.value = 0;
        $("button").disabled = true;
      };
    </script>
    """
  end
end
