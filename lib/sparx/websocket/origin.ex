# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.WebSocket.Origin do
  @moduledoc false
  # Decides whether a page may open a WebSocket (RFC 6455, section 10.2): browsers send the page's origin in
  # Origin, and the server must refuse.

  alias Sparx.{Headers, Request}

  require Logger

  @doc "Clients that are not browsers send no Origin; this does not protect from them. A refusal is logged."
  @spec allowed?(Request.t(), :same_origin | :any | [binary]) :: boolean
  def allowed?(_request, :any), do: true

  def allowed?(request, policy) do
    case Request.header(request, "origin") do
      nil -> true
      origin -> origin |> String.downcase() |> matches?(policy, request) or refused(request, origin, policy)
    end
  end

  defp refused(request, origin, policy) do
    Logger.warning(
      "#{request.method} #{request.path}: a WebSocket was refused, since its page comes from #{printable(origin)}, and " <>
        reason(policy, request)
    )

    false
  end

  defp reason(:same_origin, request) do
    "the request is for #{Enum.map_join(authorities(request), " or ", &printable/1)}. Behind a proxy: let it pass on the Host that the " <>
      "client sent (nginx: `proxy_set_header Host $http_host`, since $host has no port), or name the origin in the option :origin"
  end

  defp reason(origins, _request),
    do: "the option :origin has only #{Enum.map_join(origins, ", ", &inspect/1)}"

  # Makes text of a client safe for a log line.
  defp printable(""), do: "no host"
  defp printable(text), do: text |> String.slice(0, 200) |> inspect()

  defp matches?(origin, :same_origin, request) do
    case String.split(origin, "://", parts: 2) do
      [scheme, authority] when scheme in ["http", "https"] and authority != "" ->
        Enum.any?(authorities(request), &same?(authority, scheme, &1, request))

      _null_or_another_scheme ->
        false
    end
  end

  defp matches?(origin, allowed, _request), do: Enum.any?(allowed, &(String.downcase(&1) == origin))

  # The host that the client asked for: from the request, and from proxies that replaced it or dropped its port. A page cannot add
  # fields to a handshake, so these need no trust.
  defp authorities(request) do
    own = String.downcase(request.authority || "")
    headers = Request.headers(request)

    ports =
      for port <- listed(headers, "x-forwarded-port"), port =~ ~r/\A\d{1,5}\z/, do: host(own) <> ":" <> port

    Enum.uniq([own | forwarded(headers) ++ listed(headers, "x-forwarded-host") ++ ports])
  end

  defp listed(headers, name) do
    for value <- Headers.get_all(headers, name),
        element <- String.split(value, ","),
        element = element |> String.trim() |> String.downcase(),
        element != "",
        do: element
  end

  # RFC 7239, section 5.3.
  defp forwarded(headers) do
    for value <- Headers.get_all(headers, "forwarded"),
        [_all, host] <- Regex.scan(~r/(?:\A|[;,\s])host="?([^";,\s]+)/i, value),
        do: String.downcase(host)
  end

  defp host(authority), do: String.replace(authority, ~r/:\d+\z/, "")

  # A proxy in front may speak TLS for the server, so the schemes need not agree; their default ports are left out then.
  defp same?(authority, scheme, own, request) do
    with_port(authority, scheme) == with_port(own, Atom.to_string(request.scheme)) or
      (authority == own and own != "")
  end

  defp with_port(authority, scheme) do
    if authority =~ ~r/:\d+\z/, do: authority, else: authority <> default_port(scheme)
  end

  defp default_port("http"), do: ":80"
  defp default_port("https"), do: ":443"
end
