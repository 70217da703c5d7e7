# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Frame.MessagesTest do
  use ExUnit.Case, async: true

  alias Sparx.Frame.Messages

  test "the messages equal those that the port program was built with" do
    {table, 0} = System.cmd(Application.app_dir(:sparx, "priv/sparx_port"), ["--protocol"])

    rows =
      for [_, kind, name, from, fields] <-
            Regex.scan(~r/^\| (\d+) \| ([A-Z_]+) \| (\w+) \| (.*) \|$/m, table),
          do: {String.to_integer(kind), String.downcase(name), from, String.split(fields)}

    assert rows ==
             for(
               m <- Messages.all(),
               do: {m.kind, "#{m.name}", "#{m.from}", Enum.map(m.fields, fn {name, _} -> "#{name}" end)}
             )

    assert length(rows) == length(Messages.from(:host)) + length(Messages.from(:port))
  end

  test "a message has a kind, a side and typed fields" do
    assert Messages.fetch!(:head) == %{
             kind: 5,
             name: :head,
             from: :host,
             fields: [stream: :stream, status: :uint, headers: :fields, length: :uint_or_nil]
           }

    assert Messages.fetch!(:done).fields == [stream: :stream, report: :array_or_nil]
    assert_raise KeyError, fn -> Messages.fetch!(:nothing) end
  end

  test "names and methods are found by their numbers" do
    assert Enum.at(Messages.names(), 0) == "accept"
    assert Enum.at(Messages.names(), 63) == "x-forwarded-for"
    assert length(Messages.names()) == 64
    assert Messages.methods() == ~w(GET HEAD POST PUT DELETE CONNECT OPTIONS TRACE PATCH)
  end
end
