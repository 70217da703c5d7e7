defmodule Sparx.Server.Framing do
  @moduledoc false
  # Frames (PROTOCOL.md, section 1) out of what comes over the pipe: a pure structure.
  #
  # A frame that has not come whole is kept, which is at most one: what it announces is checked before anything of it is kept.

  # Bytes of a payload: the port program sends no more.
  @most 65_532

  # missing: bytes that the frame still needs, its head not counted; nil if the head has not come whole.
  defstruct kept: [], size: 0, missing: nil

  @type t :: %__MODULE__{kept: iodata, size: non_neg_integer, missing: pos_integer | nil}

  @spec new() :: t
  def new, do: %__MODULE__{}

  @doc "Takes what has come. Returns the payloads of the frames that are whole, or the size of one that is too long."
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
