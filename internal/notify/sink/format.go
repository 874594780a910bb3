// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	cloudevents "github.com/cloudevents/sdk-go/v2/event"

	"batchcompute.dev/operator/internal/notify/event"
)

// Format is the form of the requests.
type Format string

// The formats.
const (
	// Structured is one CloudEvent a request, as JSON.
	Structured Format = "structured"
	// Binary is one CloudEvent a request: its data is the body, its attributes are headers.
	Binary Format = "binary"
	// Batch is several CloudEvents a request, as a JSON list.
	Batch Format = "batch"
	// Vendor is several events a request, in BatchCompute's body.
	Vendor Format = "batchcompute"
)

// many reports whether a request may have several events.
func (f Format) many() bool { return f == Batch || f == Vendor }

// encode returns the headers and the body of a request with these events.
func (f Format) encode(o event.Origin, events []event.Event) (http.Header, []byte, error) {
	header := http.Header{"Content-Type": {"application/json"}}
	if f == Vendor {
		body, err := event.BuildBody(o, events)
		return header, body, err
	}
	ces := make([]cloudevents.Event, len(events))
	for i := range events {
		ce, err := events[i].CloudEvent(o)
		if err != nil {
			return nil, nil, err
		}
		ces[i] = ce
	}
	var body []byte
	var err error
	switch f {
	case Binary:
		for name, value := range attributes(&ces[0]) {
			header.Set("Ce-"+name, escape(value))
		}
		body = ces[0].Data()
	case Structured:
		header.Set("Content-Type", cloudevents.ApplicationCloudEventsJSON)
		body, err = json.Marshal(ces[0])
	default:
		header.Set("Content-Type", cloudevents.ApplicationCloudEventsBatchJSON)
		body, err = json.Marshal(ces)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("encoding %d events: %w", len(events), err)
	}
	return header, body, nil
}

// attributes returns the attributes of a CloudEvent by their names, without the type of its data. The SDK's bindings do
// not escape them as the HTTP binding asks.
func attributes(ce *cloudevents.Event) map[string]string {
	out := map[string]string{
		"specversion": ce.SpecVersion(), "id": ce.ID(), "source": ce.Source(), "type": ce.Type(), "subject": ce.Subject(),
		"time": ce.Time().Format("2006-01-02T15:04:05.999999999Z07:00"), "dataschema": ce.DataSchema(),
	}
	for name, value := range ce.Extensions() {
		out[name] = fmt.Sprint(value)
	}
	return out
}

// escape writes a text as a header of a CloudEvent. Source: CloudEvents, HTTP Protocol Binding 1.0.2, 3.1.3.2.
func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c > '~' || c == '"' || c == '%' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
