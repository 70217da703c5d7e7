# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Server.SharedTerms do
  @moduledoc false
  # What all processes of the node know of a port program, by its port: `:persistent_term`, so that nothing is copied when a process is
  # started for a request.

  @type kind :: :job

  @doc "Lets processes find a term of this kind. The calling process is the server."
  @spec put(kind, port | pid, term) :: :ok
  def put(kind, port, term) do
    forget_dead()
    :persistent_term.put({__MODULE__, kind, port}, {self(), term})
  end

  @doc "The term of a port program; nil if there is none, or the program has ended."
  @spec get(kind, port | pid) :: term | nil
  def get(kind, port) do
    {_server, term} = :persistent_term.get({__MODULE__, kind, port}, {nil, nil})
    term
  end

  @spec erase(kind, port | pid) :: boolean
  def erase(kind, port), do: :persistent_term.erase({__MODULE__, kind, port})

  # A server that was killed could not erase what it had put.
  defp forget_dead do
    for {{__MODULE__, kind, port}, {server, _term}} <- :persistent_term.get(),
        not Process.alive?(server),
        do: erase(kind, port)
  end
end
