# SPDX-License-Identifier: Apache-2.0
defmodule Arena.MixProject do
  use Mix.Project

  def project do
    # Elixir 1.18 has JSON, so Jason is not a dependency, and an image of Elixir 1.18 needs no Hex.
    [
      app: :arena,
      version: "1.0.0",
      elixir: "~> 1.14",
      deps: [{:sparx, path: sparx()}],
      xref: [exclude: [JSON, Jason]]
    ]
  end

  def application, do: [extra_applications: [:logger], mod: {Arena.Application, []}]

  # The repository of this folder, unless SPARX_PATH names another one.
  defp sparx, do: System.get_env("SPARX_PATH", "../..")
end
