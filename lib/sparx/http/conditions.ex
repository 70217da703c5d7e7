# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.HTTP.Conditions do
  @moduledoc false
  # Conditional requests (RFC 9110, section 13), for an existing representation.

  alias Sparx.Headers
  alias Sparx.HTTP.{Date, ETag}

  @typedoc "What identifies the version of a representation: its ETag field's value, and when it was modified (s since 1970)."
  @type validators :: %{
          required(:etag) => binary | nil,
          required(:modified) => integer | nil,
          optional(atom) => term
        }

  @doc """
  Evaluates the conditions of a request: `:ok`, or the status to answer with.

  The order is that of section 13.2.2: If-Match, or else If-Unmodified-Since; If-None-Match, or else If-Modified-Since.
  """
  @spec check(method :: binary, Headers.t(), validators) :: :ok | 304 | 412
  def check(method, headers, validators) do
    cond do
      not held?(headers, validators) -> 412
      changed?(method, headers, validators) -> :ok
      method in ["GET", "HEAD"] -> 304
      true -> 412
    end
  end

  # A weak tag never matches If-Match.
  defp held?(headers, validators) do
    case list(headers, "if-match") do
      nil -> not modified_since?(headers, "if-unmodified-since", validators, false)
      :any -> true
      tags -> any?(tags, validators.etag, &ETag.strong_match?/2)
    end
  end

  defp changed?(method, headers, validators) do
    case list(headers, "if-none-match") do
      nil when method in ["GET", "HEAD"] -> modified_since?(headers, "if-modified-since", validators, true)
      nil -> true
      :any -> false
      tags -> not any?(tags, validators.etag, &ETag.weak_match?/2)
    end
  end

  defp any?(_tags, nil, _match?), do: false

  defp any?(tags, etag, match?) do
    {:ok, etag} = ETag.parse(etag)
    Enum.any?(tags, &match?.(&1, etag))
  end

  # A field that is missing, occurs twice, or is not a date is ignored; so is every date field if the
  # representation has no date.
  defp modified_since?(headers, name, %{modified: modified}, otherwise) do
    with [value] <- Headers.get_all(headers, name),
         {:ok, date} <- Date.parse(value),
         true <- modified != nil do
      modified > date
    else
      _ -> otherwise
    end
  end

  defp list(headers, name) do
    case Headers.get_all(headers, name) do
      [] -> nil
      values -> values |> Enum.join(",") |> ETag.parse_list()
    end
  end

  @doc """
  Whether If-Range (section 13.1.5) allows the requested ranges: a tag must match strongly, a date exactly.
  """
  @spec range?(Headers.t(), validators) :: boolean
  def range?(headers, validators) do
    case Headers.get_all(headers, "if-range") do
      [] -> true
      [value] -> same_version?(value, validators)
      _several -> false
    end
  end

  defp same_version?(value, %{etag: etag, modified: modified}) do
    case ETag.parse(value) do
      {:ok, tag} -> any?([tag], etag, &ETag.strong_match?/2)
      :error -> modified != nil and Date.parse(value) == {:ok, modified}
    end
  end
end
