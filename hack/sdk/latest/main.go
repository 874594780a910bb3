// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Command latest calls an API with the newest of the vendor's Go SDK, unmodified, through the SDK's client for
// any action: the module proxy has no newer module with the structures of BatchCompute. It reads calls from its
// standard input, a line of JSON each, and writes a line for each, in the order in which they end; see type
// call and type answer. Tests drive it with internal/testutil/sdkcall.
package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"sync"

	"github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/common"
	sdkerrors "github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/common/errors"
	tchttp "github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/common/http"
	"github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/common/profile"
)

// call is a line of the input.
type call struct {
	ID                         int
	Endpoint                   string // host and port
	CA                         string // who is trusted, in PEM; empty: HTTP
	SecretID, SecretKey, Token string
	Region, Language           string
	SignMethod                 string // TC3-HMAC-SHA256, HmacSHA1 or HmacSHA256
	Unsigned                   bool   // the payload is not signed
	Method                     string // GET or POST
	Action                     string
	Params                     json.RawMessage
}

// answer is a line of the output: Response, without its envelope, or Code and what belongs to it.
type answer struct {
	ID                       int
	Response                 json.RawMessage `json:",omitempty"`
	Code, Message, RequestID string          `json:",omitempty"`
}

func main() {
	if err := serve(os.Stdin, os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func serve(in io.Reader, out io.Writer) error {
	lines := json.NewDecoder(bufio.NewReader(in))
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	var mu sync.Mutex
	var calls sync.WaitGroup
	defer calls.Wait()
	for {
		var c call
		if err := lines.Decode(&c); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("reading a call: %w", err)
		}
		calls.Go(func() {
			a := answer{ID: c.ID}
			response, err := do(&c)
			var sdk *sdkerrors.TencentCloudSDKError
			switch {
			case err == nil:
				a.Response = response
			case errors.As(err, &sdk):
				a.Code, a.Message, a.RequestID = sdk.GetCode(), sdk.GetMessage(), sdk.GetRequestId()
			default:
				a.Code, a.Message = "Client", err.Error()
			}
			mu.Lock()
			defer mu.Unlock()
			if err := enc.Encode(a); err != nil {
				log.Fatal(err)
			}
		})
	}
}

// trusting is a transport that trusts certificates in PEM. Each call has a connection of its own, so calls reach all replicas.
func trusting(pem string) http.RoundTripper {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(pem))
	return &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}
}

// do makes a call as a user of the SDK does.
func do(c *call) (json.RawMessage, error) {
	p := profile.NewClientProfile()
	p.HttpProfile.Scheme, p.HttpProfile.Endpoint, p.HttpProfile.ReqMethod = "http", c.Endpoint, c.Method
	if c.CA != "" {
		p.HttpProfile.Scheme = "https"
	}
	p.SignMethod, p.UnsignedPayload = c.SignMethod, c.Unsigned
	if c.Language != "" {
		p.Language = c.Language
	}
	p.DisableRegionBreaker = true // the endpoint is the only one
	client := common.NewCommonClient(common.NewTokenCredential(c.SecretID, c.SecretKey, c.Token), c.Region, p)
	if c.CA != "" {
		client.WithHttpTransport(trusting(c.CA))
	}
	request := tchttp.NewCommonRequest("batch", "2017-03-12", c.Action)
	if c.Method == tchttp.GET || c.SignMethod != "TC3-HMAC-SHA256" {
		if err := flatten(c.Params, request.GetParams()); err != nil {
			return nil, err
		}
	} else if err := request.SetActionParameters([]byte(c.Params)); err != nil {
		return nil, err
	}
	response := tchttp.NewCommonResponse()
	if err := client.Send(request, response); err != nil {
		return nil, err
	}
	var envelope struct{ Response json.RawMessage }
	if err := json.Unmarshal(response.GetBody(), &envelope); err != nil {
		return nil, err
	}
	return envelope.Response, nil
}
