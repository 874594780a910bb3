// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package topic finds the receiver of a topic: it opens the sink that the catalogue has for it, and shares it among
// all who need it.
package topic

import (
	"errors"
	"sync"
	"time"

	"batchcompute.dev/operator/internal/catalog"
	"batchcompute.dev/operator/internal/notify/event"
	"batchcompute.dev/operator/internal/notify/sink"
)

// ErrUnknown is in the error of Open if the catalogue does not have the topic and there is no own sink.
var ErrUnknown = errors.New("the topic is unknown")

// Topic is where the events of one topic go.
type Topic struct {
	// Sink is shared. It must not be used after Release.
	Sink sink.Sink
	// Key identifies the receiver with its configuration: topics with the same Key share one Sink at a time. It has no
	// secrets in it, and stays the same if a secret changes; Sink is another one then.
	Key string
	// Origin is where the events come from. The sink knows it.
	Origin event.Origin
	// GiveUpAfter is how long after an event it is no longer sent.
	GiveUpAfter time.Duration
	// Release must be called once when Sink is no longer used. A Topic is meant to be held for one Send or a few, so
	// that a changed configuration comes into use.
	Release func()
}

// Options are what Topics needs.
type Options struct {
	// Catalog returns the current catalogue.
	Catalog func() *catalog.Catalog
	// SecretsDir is the directory with a file for each key of the Secret for notifications; "" means that there is none.
	SecretsDir string
	// Now is the clock.
	Now func() time.Time
}

// Topics opens sinks. It may be used by several goroutines.
type Topics struct {
	options Options
	mu      sync.Mutex
}

// New returns Topics without open sinks.
func New(o Options) *Topics { return &Topics{options: o} }

// Open returns where the events of a topic go in a namespace. sinkURL is the value of
// v1alpha1.AnnotationNotificationSink of the object, which is used if the catalogue does not have the topic. It opens no
// connection. An error is a sentence for users, without secrets; it may be resolved by a change of the catalogue, of the
// Secret or of the annotation, so Open can be called again. errors.Is says whether it is ErrUnknown.
func (t *Topics) Open(namespace, topicName, sinkURL string) (*Topic, error) {
	return nil, ErrUnknown
}

// GiveUpAfter returns that of the current catalogue, for events whose topic cannot be opened.
func (t *Topics) GiveUpAfter() time.Duration {
	return t.options.Catalog().Notifications().GiveUpAfter
}

// Close closes all sinks. Those in use are closed when they are released. Open must not be called after it.
func (t *Topics) Close() {}
