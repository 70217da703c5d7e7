# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.StartError do
  @moduledoc """
  Why a server could not start, as `{:error, %Sparx.StartError{}}` from `Sparx.start_link/1`.

  `reason` is one of

  | reason | meaning |
  | --- | --- |
  | `:address` | a listener could not be bound; `field` names it |
  | `:option` | `sparx_port` refused an option; `field` names it |
  | `:certificate` | a certificate or a key cannot be read or used, or the two do not match; the message names the file |
  | `:sandbox` | `sparx_port` could not switch to `:user`, or lacks a part of its sandbox that `sandbox: :strict` requires; `field` is `"user"` or `"sandbox"` |
  | `:executable` | the program `sparx_port` is missing, or cannot be run |
  | `:exit` | `sparx_port` ended before it was ready |
  | `:timeout` | `sparx_port` did not answer |
  | `:protocol` | `sparx_port` speaks another version of the protocol, or another protocol |
  """

  defexception [:reason, :field, :message]

  @type t :: %__MODULE__{
          reason: :address | :option | :certificate | :sandbox | :executable | :exit | :timeout | :protocol,
          field: binary | nil,
          message: binary
        }

  @doc false
  def new(reason, message, field \\ nil),
    do: %__MODULE__{reason: reason, message: message, field: field}

  @doc false
  # Unwraps the reason of a supervisor or a server that did not start.
  def unwrap({:shutdown, reason}), do: unwrap(reason)
  def unwrap({:failed_to_start_child, _id, reason}), do: unwrap(reason)
  def unwrap(reason), do: reason
end

defmodule Sparx.BodyError do
  @moduledoc """
  A request body could not be read to its end: `reason` is `:closed` (the client has left, or the port program has ended)
  or `:timeout`. If a handler or a plug does not rescue it, the client, if it is still there, gets a 408.
  """

  # plug_status is the name that Plug.Exception looks for.
  defexception [:reason, plug_status: 408]

  @type t :: %__MODULE__{reason: :closed | :timeout, plug_status: 408}

  @impl Exception
  def message(%{reason: :timeout}), do: "the client did not send its request body in time"
  def message(%{reason: :closed}), do: "the client closed the connection before its request body was complete"
end
