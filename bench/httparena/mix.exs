# SPDX-License-Identifier: Apache-2.0
defmodule Arena.MixProject do
  use Mix.Project

  def project do
    # One of the two is there, and Jason is no dependency: an image of Elixir 1.18 needs no Hex.
    [
      app: :arena,
      version: "1.0.0",
      elixir: "~> 1.14",
      deps: [{:sparx, path: sparx()}],
      xref: [exclude: [JSON, Jason]]
    ]
  end

  def application, do: [extra_applications: [:logger], mod: {Arena.Application, []}]

  # The repository that this folder is in, unless SPARX_PATH names another one.
  defp sparx, do: System.get_env("SPARX_PATH", "../..")
end
