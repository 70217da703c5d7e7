# SPDX-License-Identifier: Apache-2.0
# Cowboy with the same routes as sparx.exs, and without limits that would end a connection during a measurement.
Code.require_file("answers.exs", __DIR__)

defmodule Bench.Cowboy.Echo do
  # Cowboy does not ping, and compresses only with an option. Hibernation costs time and saves memory: its
  # processes stay awake when the rate is measured, and hibernate when memory is measured (?hibernate).
  def init(request, _state) do
    options = %{idle_timeout: :infinity, max_frame_size: 1_048_576}
    {:cowboy_websocket, request, :cowboy_req.qs(request) == "hibernate", options}
  end

  def websocket_handle({type, _data} = frame, true) when type in [:text, :binary],
    do: {[frame], true, :hibernate}

  def websocket_handle({type, _data} = frame, false) when type in [:text, :binary], do: {[frame], false}
  def websocket_handle(_control, state), do: {[], state}
  def websocket_info(_message, state), do: {[], state}
end

defmodule Bench.Cowboy.Broadcast do
  def init(request, state), do: {:cowboy_websocket, request, state, %{idle_timeout: :infinity}}

  def websocket_init(state) do
    :ok = Bench.Answers.join()
    {[], state}
  end

  def websocket_handle({:binary, data}, state) do
    Bench.Answers.tell_all(data)
    {[], state}
  end

  def websocket_info({:told, data}, state), do: {[{:binary, data}], state}
end

defmodule Bench.Cowboy do
  alias Bench.Answers

  @text "text/plain; charset=utf-8"
  @block :binary.copy(<<0>>, 64 * 1024)

  def init(request, state), do: {:ok, handle(:cowboy_req.path(request), request), state}

  defp handle("/upload", request) do
    {bytes, request} = count(request, 0)
    reply(request, "#{bytes}\n")
  end

  defp handle("/download/" <> bytes, request) do
    fields = %{"content-type" => "application/octet-stream"}

    fields =
      if :cowboy_req.qs(request) == "length", do: Map.put(fields, "content-length", bytes), else: fields

    request = :cowboy_req.stream_reply(200, fields, request)

    for _ <- 1..div(String.to_integer(bytes), byte_size(@block)),
        do: :cowboy_req.stream_body(@block, :nofin, request)

    :cowboy_req.stream_body("", :fin, request)
    request
  end

  defp handle("/echo", request) do
    {:ok, body, request} = :cowboy_req.read_body(request)
    reply(request, body)
  end

  defp handle("/kilobytes/" <> size, request), do: reply(request, Answers.kilobytes(size))

  defp handle("/files/" <> name, request) do
    path = Answers.path(name)
    {:ok, info} = :file.read_file_info(path, [:raw])
    :cowboy_req.reply(200, %{"content-type" => @text}, {:sendfile, 0, elem(info, 1), path}, request)
  end

  defp handle("/documents/" <> size, request),
    do: :cowboy_req.reply(200, %{"content-type" => "application/json"}, Answers.file(size), request)

  defp handle("/json/" <> id, request),
    do: :cowboy_req.reply(200, %{"content-type" => "application/json"}, Answers.document(id), request)

  defp handle("/language", request) do
    fields = %{
      "content-type" => @text,
      "cache-control" => "private, max-age=60",
      "vary" => "accept-language",
      "x-language" => :cowboy_req.header("accept-language", request, "")
    }

    :cowboy_req.reply(200, fields, Answers.hello(), request)
  end

  defp handle(_path, request), do: reply(request, Answers.hello())

  defp reply(request, body), do: :cowboy_req.reply(200, %{"content-type" => @text}, body, request)

  defp count(request, bytes) do
    case :cowboy_req.read_body(request) do
      {:more, data, request} -> count(request, bytes + byte_size(data))
      {:ok, data, request} -> {bytes + byte_size(data), request}
    end
  end
end

[port] = System.argv()
{:ok, _} = Application.ensure_all_started(:cowboy)

dispatch =
  :cowboy_router.compile([
    {:_,
     [
       {"/websocket", Bench.Cowboy.Echo, []},
       {"/broadcast", Bench.Cowboy.Broadcast, []},
       {:_, Bench.Cowboy, []}
     ]}
  ])

transport = %{
  max_connections: :infinity,
  num_acceptors: 10,
  socket_opts: [ip: {127, 0, 0, 1}, port: String.to_integer(port), backlog: 4096, buffer: 65_536]
}

# HTTP/2 with prior knowledge on the same port: the default rate limits would end connections of h2load.
unlimited = {1_000_000_000, 1000}

protocol = %{
  env: %{dispatch: dispatch},
  max_keepalive: :infinity,
  request_timeout: :infinity,
  idle_timeout: :infinity,
  inactivity_timeout: :infinity,
  max_received_frame_rate: unlimited,
  max_reset_stream_rate: unlimited
}

protocol =
  if System.get_env("BENCH_DOCUMENTS"),
    do: Map.put(protocol, :stream_handlers, [:cowboy_compress_h, :cowboy_stream_h]),
    else: protocol

# TLS with the same settings as the others: a certificate of each kind, AES-128-GCM first, tickets in both
# versions.
if folder = System.get_env("BENCH_TLS") do
  {:ok, _} = Application.ensure_all_started(:ssl)

  certs_keys =
    for kind <- ["a-ec", "a-rsa"],
        do: %{certfile: '#{folder}/#{kind}.crt', keyfile: '#{folder}/#{kind}.key'}

  {first, others} =
    Enum.split_with(
      :ssl.cipher_suites(:default, :"tlsv1.3") ++ :ssl.cipher_suites(:default, :"tlsv1.2"),
      &(&1.cipher == :aes_128_gcm)
    )

  # Ranch requires the first one, although OTP would accept just the list.
  secure = [
    certfile: hd(certs_keys).certfile,
    keyfile: hd(certs_keys).keyfile,
    certs_keys: certs_keys,
    versions: [:"tlsv1.3", :"tlsv1.2"],
    ciphers: first ++ others,
    honor_cipher_order: true,
    session_tickets: :stateless,
    log_level: :none
  ]

  transport = Map.update!(transport, :socket_opts, &(Keyword.delete(&1, :buffer) ++ secure))
  {:ok, _} = :cowboy.start_tls(:bench, transport, protocol)
else
  {:ok, _} = :cowboy.start_clear(:bench, transport, protocol)
end

Process.sleep(:infinity)
