# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.HTTP.Date do
  @moduledoc false
  # Dates in header fields (RFC 9110, section 5.6.7), as seconds since 1970.

  @days ~w(Mon Tue Wed Thu Fri Sat Sun)
  @long_days ~w(Monday Tuesday Wednesday Thursday Friday Saturday Sunday)
  @months ~w(Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec)
  @epoch 62_167_219_200

  @doc "A date in the form that is sent: `Sun, 06 Nov 1994 08:49:37 GMT`."
  @spec format(integer) :: binary
  def format(seconds) do
    {{year, month, day} = date, {hour, minute, second}} =
      :calendar.gregorian_seconds_to_datetime(seconds + @epoch)

    weekday = Enum.at(@days, :calendar.day_of_the_week(date) - 1)
    month = Enum.at(@months, month - 1)
    "#{weekday}, #{two(day)} #{month} #{four(year)} #{two(hour)}:#{two(minute)}:#{two(second)} GMT"
  end

  defp two(number), do: number |> Integer.to_string() |> String.pad_leading(2, "0")
  defp four(number), do: number |> Integer.to_string() |> String.pad_leading(4, "0")

  @doc """
  Reads a date in one of the three formats of RFC 9110. The name of the weekday must exist, but need not fit
  the date.

  `now`, in seconds, decides the century of a year with two digits.
  """
  @spec parse(binary, integer) :: {:ok, integer} | :error
  def parse(text, now \\ System.os_time(:second))

  def parse(
        <<day::binary-3, ", ", d::binary-2, " ", month::binary-3, " ", y::binary-4, " ", rest::binary>>,
        _now
      )
      when day in @days,
      do: date(y, month, d, rest, " GMT")

  def parse(
        <<day::binary-3, " ", month::binary-3, " ", d::binary-2, " ", time::binary-8, " ", y::binary-4>>,
        _now
      )
      when day in @days,
      do: date(y, month, String.replace_prefix(d, " ", "0"), time, "")

  def parse(text, now) do
    with [day, <<d::binary-2, "-", month::binary-3, "-", y::binary-2, " ", rest::binary>>]
         when day in @long_days <-
           :binary.split(text, ", "),
         {:ok, year} <- digits(y) do
      date(String.pad_leading(Integer.to_string(century(year, now)), 4, "0"), month, d, rest, " GMT")
    else
      _ -> :error
    end
  end

  # More than 50 years ahead means the past.
  defp century(year, now) do
    {{this_year, _month, _day}, _time} = :calendar.gregorian_seconds_to_datetime(now + @epoch)
    year = this_year - rem(this_year, 100) + year
    if year > this_year + 50, do: year - 100, else: year
  end

  defp date(year, month, day, <<h::binary-2, ":", m::binary-2, ":", s::binary-2, zone::binary>>, zone) do
    with {:ok, year} <- digits(year),
         index when index != nil <- Enum.find_index(@months, &(&1 == month)),
         {:ok, day} <- digits(day),
         true <- :calendar.valid_date(year, index + 1, day),
         {:ok, hour} when hour < 24 <- digits(h),
         {:ok, minute} when minute < 60 <- digits(m),
         {:ok, second} when second <= 60 <- digits(s) do
      {:ok,
       :calendar.datetime_to_gregorian_seconds({{year, index + 1, day}, {hour, minute, 0}}) + second - @epoch}
    else
      _ -> :error
    end
  end

  defp date(_year, _month, _day, _time, _zone), do: :error

  defp digits(text), do: if(all_digits?(text), do: {:ok, String.to_integer(text)}, else: :error)

  defp all_digits?(<<c, rest::binary>>) when c in ?0..?9, do: rest == "" or all_digits?(rest)
  defp all_digits?(_text), do: false
end
