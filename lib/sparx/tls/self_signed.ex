# SPDX-License-Identifier: Apache-2.0
defmodule Sparx.TLS.SelfSigned do
  @moduledoc false
  # A self-signed certificate, for trying things out. It is valid for 30 days.
  # Only `mix sparx.run` needs it, so the library itself need not depend on the application :public_key, which
  # mix loads.

  @p256 {1, 2, 840, 10045, 3, 1, 7}
  @ec_public_key {1, 2, 840, 10045, 2, 1}
  @ecdsa_with_sha256 {1, 2, 840, 10045, 4, 3, 2}
  @common_name {2, 5, 4, 3}
  @alternative_names {2, 5, 29, 17}
  @extended_key_usage {2, 5, 29, 37}
  @server_auth {1, 3, 6, 1, 5, 5, 7, 3, 1}

  @doc "A certificate (DER) for these hosts and addresses, and its key."
  @spec make([binary]) :: {binary, {:ECPrivateKey, binary}}
  def make([first | _] = hosts) do
    key = library().generate_key({:namedCurve, @p256})
    name = {:rdnSequence, [[{:AttributeTypeAndValue, @common_name, {:utf8String, first}}]]}
    algorithm = {:SignatureAlgorithm, @ecdsa_with_sha256, :asn1_NOVALUE}

    tbs =
      {:OTPTBSCertificate, :v3, serial(), algorithm, name, validity(), name, public(key), :asn1_NOVALUE,
       :asn1_NOVALUE,
       [
         {:Extension, @alternative_names, false, Enum.map(hosts, &alternative/1)},
         {:Extension, @extended_key_usage, false, [@server_auth]}
       ]}

    {library().pkix_sign(tbs, key), {:ECPrivateKey, library().der_encode(:ECPrivateKey, key)}}
  end

  defp library, do: :public_key

  defp serial, do: 8 |> :crypto.strong_rand_bytes() |> :binary.decode_unsigned() |> Bitwise.bor(1)

  defp validity do
    now = DateTime.utc_now()
    {:Validity, {:utcTime, utc(DateTime.add(now, -3600))}, {:utcTime, utc(DateTime.add(now, 30 * 86_400))}}
  end

  defp utc(time), do: time |> Calendar.strftime("%y%m%d%H%M%SZ") |> String.to_charlist()

  defp public(key) do
    point = {:ECPoint, elem(key, 4)}
    {:OTPSubjectPublicKeyInfo, {:PublicKeyAlgorithm, @ec_public_key, {:namedCurve, @p256}}, point}
  end

  defp alternative(host) do
    case :inet.parse_strict_address(String.to_charlist(host)) do
      {:ok, {a, b, c, d}} -> {:iPAddress, <<a, b, c, d>>}
      {:ok, ip} -> {:iPAddress, for(part <- Tuple.to_list(ip), into: <<>>, do: <<part::16>>)}
      {:error, _} -> {:dNSName, String.to_charlist(host)}
    end
  end
end
