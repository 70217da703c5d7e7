// A client of Go's net/http over TLS: `go run tls_client.go URL`, with SSL_CERT_FILE for the authority. It prints "well" when all was as it should be.
package main

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"os"
	"sync"
)

func check(right bool, what string, rest ...interface{}) {
	if !right {
		fmt.Println(append([]interface{}{what}, rest...)...)
		os.Exit(1)
	}
}

// echo sends so many bytes, and returns the connection's state when they came back.
func echo(client *http.Client, url string, size int, protocol string) *tls.ConnectionState {
	body := make([]byte, size)
	rand.Read(body)
	request, err := http.NewRequest("POST", url, bytes.NewReader(body))
	check(err == nil, "request", err)
	answer, err := client.Do(request)
	check(err == nil, "POST", err)
	defer answer.Body.Close()
	check(answer.Proto == protocol, "protocol", answer.Proto)
	came, err := io.ReadAll(answer.Body)
	check(err == nil && bytes.Equal(came, body), "another body came back", err, len(came))
	return answer.TLS
}

// first makes a connection, and says whether its session was resumed.
func first(url string, config *tls.Config) bool {
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
	client := &http.Client{Transport: transport}
	defer transport.CloseIdleConnections()
	return echo(client, url, 10, "HTTP/2.0").DidResume
}

func main() {
	url := os.Args[1]
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		config := func() *tls.Config { return &tls.Config{MinVersion: version, MaxVersion: version} }
		plain := &http.Client{Transport: &http.Transport{TLSClientConfig: config(), TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}}}
		state := echo(plain, url, 1<<20, "HTTP/1.1")
		check(state.Version == version, "version", state.Version)

		multi := &http.Client{Transport: &http.Transport{TLSClientConfig: config(), ForceAttemptHTTP2: true}}
		state = echo(multi, url, 4<<20, "HTTP/2.0")
		check(state.NegotiatedProtocol == "h2", "ALPN", state.NegotiatedProtocol)
		var all sync.WaitGroup
		for i := 0; i < 50; i++ {
			all.Add(1)
			go func() {
				defer all.Done()
				echo(multi, url, 20000, "HTTP/2.0")
			}()
		}
		all.Wait()

		shared := config()
		shared.ClientSessionCache = tls.NewLRUClientSessionCache(4)
		check(!first(url, shared), "resumed too early")
		check(first(url, shared), "not resumed")
	}

	old := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}}}
	_, err := old.Get(url)
	check(err != nil, "TLS 1.1 was taken")

	// A request that waits for 100 Continue goes on when the handler reads
	request, _ := http.NewRequest("POST", url, bytes.NewReader(make([]byte, 100)))
	request.Header.Set("Expect", "100-continue")
	heard := false
	trace := &httptrace.ClientTrace{Got100Continue: func() { heard = true }}
	client := &http.Client{Transport: &http.Transport{TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}, ExpectContinueTimeout: 1 << 40}}
	answer, err := client.Do(request.WithContext(httptrace.WithClientTrace(request.Context(), trace)))
	check(err == nil && answer.StatusCode == 200 && heard, "100 Continue", err)
	fmt.Println("well")
}
