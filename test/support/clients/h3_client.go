// A client of HTTP/3 on quic-go: connections × requests, each a body that must come back as it was. Prints how many did.
//
//	h3_client PORT CONNECTIONS REQUESTS AT_ONCE BYTES
package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lucas-clemente/quic-go"
	"github.com/lucas-clemente/quic-go/http3"
)

func number(i int) int {
	n, err := strconv.Atoi(os.Args[i])
	if err != nil {
		panic(err)
	}
	return n
}

// One connection: at most `at_once` requests at a time.
func connection(url string, requests, atOnce, size int, good *int64) {
	transport := &http3.RoundTripper{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: "a.example"},
		QuicConfig: &quic.Config{
			Versions:             []quic.VersionNumber{quic.Version1},
			HandshakeIdleTimeout: time.Minute,
			MaxIdleTimeout:       time.Minute,
		},
	}
	defer transport.Close()
	client := &http.Client{Transport: transport}
	places := make(chan bool, atOnce)
	var wait sync.WaitGroup
	for i := 0; i < requests; i++ {
		wait.Add(1)
		places <- true
		go func(i int) {
			defer func() { <-places; wait.Done() }()
			body := bytes.Repeat([]byte{byte('a' + i%26)}, size)
			request, _ := http.NewRequest("POST", url, bytes.NewReader(body))
			request.Host = "a.example"
			response, err := client.Do(request)
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				return
			}
			came, err := io.ReadAll(response.Body)
			response.Body.Close()
			if err != nil || response.StatusCode != 200 || response.Proto != "HTTP/3.0" && response.Proto != "HTTP/3" || !bytes.Equal(came, body) {
				fmt.Fprintln(os.Stderr, err, response.Status, response.Proto, len(came))
				return
			}
			atomic.AddInt64(good, 1)
		}(i)
	}
	wait.Wait()
}

func main() {
	url := "https://127.0.0.1:" + os.Args[1] + "/echo"
	var good int64
	var wait sync.WaitGroup
	places := make(chan bool, 50)
	for c := 0; c < number(2); c++ {
		wait.Add(1)
		places <- true
		go func() {
			defer func() { <-places; wait.Done() }()
			connection(url, number(3), number(4), number(5), &good)
		}()
	}
	wait.Wait()
	fmt.Println(good)
}
