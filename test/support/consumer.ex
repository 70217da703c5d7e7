# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.Consumer do
  @moduledoc "A consumer of the GenStage message protocol, made of the messages alone: the calling process."

  @doc "Subscribes the calling process."
  def subscribe(producer, tag \\ make_ref(), options \\ [], current \\ nil) do
    send(producer, {:"$gen_producer", {self(), tag}, {:subscribe, current, options}})
    tag
  end

  def ask(producer, tag, count), do: send(producer, {:"$gen_producer", {self(), tag}, {:ask, count}})
  def cancel(producer, tag, reason), do: send(producer, {:"$gen_producer", {self(), tag}, {:cancel, reason}})
end
