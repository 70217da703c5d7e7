defmodule Sparx.WebSocket.Origin do
  @moduledoc false
  # Whether a page may open a WebSocket here (RFC 6455, section 10.2): browsers say which page asks, in Origin, and
  # leave it to the server to refuse.

  alias Sparx.Request

  @doc "Clients that are no browsers send no Origin, and are not what this protects from."
  @spec allowed?(Request.t(), :same_origin | :any | [binary]) :: boolean
  def allowed?(_request, :any), do: true

  def allowed?(request, policy) do
    case Request.header(request, "origin") do
      nil -> true
      origin -> origin |> String.downcase() |> matches?(policy, request)
    end
  end

  defp matches?(origin, :same_origin, request) do
    case String.split(origin, "://", parts: 2) do
      [scheme, authority] when scheme in ["http", "https"] -> same?(authority, scheme, request)
      _null_or_another_scheme -> false
    end
  end

  defp matches?(origin, allowed, _request), do: Enum.any?(allowed, &(String.downcase(&1) == origin))

  # A proxy in front may speak TLS for the server, so the schemes need not agree; their default ports are left out then.
  defp same?(authority, scheme, request) do
    own = String.downcase(request.authority || "")

    with_port(authority, scheme) == with_port(own, Atom.to_string(request.scheme)) or
      (authority == own and own != "")
  end

  defp with_port(authority, scheme) do
    if authority =~ ~r/:\d+\z/, do: authority, else: authority <> default_port(scheme)
  end

  defp default_port("http"), do: ":80"
  defp default_port("https"), do: ":443"
end
