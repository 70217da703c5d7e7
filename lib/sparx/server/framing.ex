# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Server.Framing do
  @moduledoc false
  # Splits the bytes from the pipe into frames (PROTOCOL.md, section 1): a pure structure.
  #
  # At most one incomplete frame is kept; its announced length is checked before any of its bytes are kept.

  # The longest payload, in bytes, that the port program may send.
  @most 65_532

  # missing: bytes that the frame still needs, without its length; nil while the length is incomplete.
  defstruct kept: [], size: 0, missing: nil

  @type t :: %__MODULE__{kept: iodata, size: non_neg_integer, missing: pos_integer | nil}

  @spec new() :: t
  def new, do: %__MODULE__{}

  @doc "Takes received bytes. Returns the payloads of complete frames, or the size of one that is too long."
  @spec take(t, binary) :: {:ok, [binary], t} | {:error, {:too_long, pos_integer}}
  def take(%{size: 0, missing: nil}, data), do: frames(data, [])

  def take(%{missing: nil} = framing, data),
    do: frames(IO.iodata_to_binary([framing.kept | data]), [])

  def take(%{missing: missing} = framing, data) when byte_size(data) < missing do
    {:ok, [],
     %{
       framing
       | kept: [framing.kept | data],
         size: framing.size + byte_size(data),
         missing: missing - byte_size(data)
     }}
  end

  def take(%{missing: missing} = framing, data) do
    <<rest_of_it::binary-size(missing), data::binary>> = data
    frames(data, [IO.iodata_to_binary([framing.kept | rest_of_it])])
  end

  defp frames(<<size::32, _::binary>>, _payloads) when size > @most, do: {:error, {:too_long, size}}

  defp frames(<<size::32, payload::binary-size(size), data::binary>>, payloads),
    do: frames(data, [payload | payloads])

  defp frames(<<>>, payloads), do: {:ok, Enum.reverse(payloads), %__MODULE__{}}

  defp frames(<<size::32, part::binary>>, payloads),
    do:
      {:ok, Enum.reverse(payloads),
       %__MODULE__{kept: part, size: byte_size(part), missing: size - byte_size(part)}}

  defp frames(part, payloads),
    do: {:ok, Enum.reverse(payloads), %__MODULE__{kept: part, size: byte_size(part)}}
end
