# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.FormError do
  @moduledoc """
  A form could not be read: `{:error, %Sparx.FormError{}}` from `Sparx.Request.form/2` and `Sparx.Multipart.save/2`,
  raised by the streams of `Sparx.Multipart.parts/2`.

  | `reason` | `status` | meaning |
  | --- | --- | --- |
  | `:unsupported` | 415 | the body is of another media type |
  | `:malformed` | 400 | the body, or the query, breaks its format |
  | `:too_large` | 413 | a bound was exceeded; `message` names it |
  | `:timeout` | 408 | the client did not send its body in time |
  | `:closed` | 400 | the client has left; no answer can reach it |
  | a POSIX code such as `:enospc` | 500 | a file could not be written |

  `status` is the status to answer with, and `message` one sentence that may be shown to the client.
  """

  defexception [:reason, :status, :message]

  @type t :: %__MODULE__{
          reason: :unsupported | :malformed | :too_large | :timeout | :closed | File.posix(),
          status: 400..599,
          message: binary
        }

  @doc false
  def new(:unsupported, message), do: %__MODULE__{reason: :unsupported, status: 415, message: message}
  def new(:malformed, message), do: %__MODULE__{reason: :malformed, status: 400, message: message}
  def new(:too_large, message), do: %__MODULE__{reason: :too_large, status: 413, message: message}

  @doc false
  def from_body(%Sparx.BodyError{reason: reason} = error) do
    status = if reason == :timeout, do: 408, else: 400
    %__MODULE__{reason: reason, status: status, message: Exception.message(error)}
  end

  @doc false
  def from_posix(reason),
    do: %__MODULE__{
      reason: reason,
      status: 500,
      message: "a file could not be stored: #{:file.format_error(reason)}"
    }
end
