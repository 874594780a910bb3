// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Command v1.0.162 calls an API with the vendor's Go SDK of that version, unmodified: the one that the API's
// page of 2020 was written for, and the last one in the module proxy with the structures of BatchCompute. It
// reads calls from its standard input, a line of JSON each, and writes a line for each, in the order in which
// they end; see type call and type answer. Tests drive it with internal/testutil/sdkcall.
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
	"reflect"
	"sync"

	batch "github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/batch/v20170312"
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
	// Raw sends Params as they are, not through the SDK's structures; so does an action that the SDK does not have.
	Raw bool
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
	client, err := batch.NewClient(common.NewTokenCredential(c.SecretID, c.SecretKey, c.Token), c.Region, p)
	if err != nil {
		return nil, err
	}
	if c.CA != "" {
		client.WithHttpTransport(trusting(c.CA))
	}
	method := reflect.ValueOf(client).MethodByName(c.Action)
	if c.Raw || !method.IsValid() {
		return raw(client, c)
	}
	// As batch.NewDescribeJobsRequest and its like do.
	base := &tchttp.BaseRequest{}
	base.Init().WithApiInfo("batch", batch.APIVersion, c.Action)
	request := reflect.New(method.Type().In(0).Elem())
	request.Elem().FieldByName("BaseRequest").Set(reflect.ValueOf(base))
	if err := json.Unmarshal(c.Params, request.Interface()); err != nil {
		return nil, err
	}
	results := method.Call([]reflect.Value{request})
	if err, _ := results[1].Interface().(error); err != nil {
		return nil, err
	}
	text, err := json.Marshal(results[0].Interface())
	if err != nil {
		return nil, err
	}
	return unwrap(text)
}

// trusting is a transport that trusts certificates in PEM. Each call has a connection of its own, so calls reach all replicas.
func trusting(pem string) http.RoundTripper {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(pem))
	return &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}
}

// rawRequest is a request that the SDK has no structure for.
type rawRequest struct {
	*tchttp.BaseRequest
	body json.RawMessage
}

// MarshalJSON is for POST with signature v3.
func (r *rawRequest) MarshalJSON() ([]byte, error) { return r.body, nil }

type rawResponse struct {
	*tchttp.BaseResponse
	Response json.RawMessage
}

func raw(client *batch.Client, c *call) (json.RawMessage, error) {
	base := &tchttp.BaseRequest{}
	base.Init().WithApiInfo("batch", batch.APIVersion, c.Action)
	if c.Method == tchttp.GET || c.SignMethod != "TC3-HMAC-SHA256" {
		if err := flatten(c.Params, base.GetParams()); err != nil {
			return nil, err
		}
	}
	response := &rawResponse{BaseResponse: &tchttp.BaseResponse{}}
	if err := client.Send(&rawRequest{base, c.Params}, response); err != nil {
		return nil, err
	}
	return response.Response, nil
}

// unwrap takes an answer out of its envelope.
func unwrap(text []byte) (json.RawMessage, error) {
	var envelope struct{ Response json.RawMessage }
	err := json.Unmarshal(text, &envelope)
	return envelope.Response, err
}
