// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package topic finds the receiver of a topic: the one that the catalogue has for it, or that a user names. It opens
// sinks, and shares each among all who send to it.
//
// A sink belongs to its configuration, secrets included. When the catalogue or a secret changes, the next Open returns
// another sink. The old one is closed a while after the last who uses it has released it.
package topic

import (
	"errors"
	"fmt"
	"time"

	"batchcompute.dev/operator/api/v1alpha1"
	"batchcompute.dev/operator/internal/catalog"
	"batchcompute.dev/operator/internal/notify/event"
	"batchcompute.dev/operator/internal/notify/sink"
	"batchcompute.dev/operator/internal/validation"
)

// SecretName is the Secret of the operator's namespace with the secrets of receivers, which is mounted as files.
const SecretName = "batchcompute-notifications"

// ErrUnknown is in the error of Open if the catalogue does not have the topic and the user names no receiver.
var ErrUnknown = errors.New("is unknown")

// Topic is where the events of one topic go.
type Topic struct {
	// Sink is shared. It must not be used after Release.
	Sink sink.Sink
	// Key identifies the receiver with its configuration: topics with the same Key have the same Sink. There is nothing
	// secret in it. It stays the same if only a secret changes, and Sink is another one then.
	Key string
	// Receiver says for users what it is, such as "events.example.com".
	Receiver string
	// Origin is where the events come from. The sink knows it.
	Origin event.Origin
	// DeliveryTimeout is how long after an event it is still sent.
	DeliveryTimeout time.Duration
	// Release says that Sink is no longer used; further calls do nothing. A Topic is meant to be held for one Send or a
	// few, so that a changed configuration comes into use.
	Release func()
}

// Options are what Topics needs. All but SecretsDir are required.
type Options struct {
	// Catalog returns the current catalogue.
	Catalog func() *catalog.Catalog
	// SecretsDir is a directory with a file for each key of the Secret; "" means that there is none.
	SecretsDir string
	// Now is the clock.
	Now func() time.Time
}

// Topics opens sinks. It may be used by several goroutines.
type Topics struct {
	options Options
	cache   *cache
	newHTTP func(sink.Config) (openSink, error) // other than sink.NewHTTP only in tests
}

// New returns Topics without open sinks.
func New(o Options) *Topics {
	newHTTP := func(c sink.Config) (openSink, error) { return sink.NewHTTP(c, o.Now) }
	return &Topics{options: o, cache: newCache(), newHTTP: newHTTP}
}

// Open returns where the events of a topic go in a namespace. The topic of the catalogue counts; sinkURL, which is
// v1alpha1.AnnotationNotificationSink of the object, is used only if there is none, and "" means that it is absent. Open
// makes no connection and reads at most the files of SecretsDir.
//
// An error is a sentence for users without anything secret. It is resolved by a change of the catalogue, of the Secret
// or of the annotation, so it is worth to call Open again. It is ErrUnknown if nobody names a receiver.
func (t *Topics) Open(namespace, name, sinkURL string) (*Topic, error) {
	n := t.options.Catalog().Notifications()
	r, err := t.receiver(n, namespace, name, sinkURL)
	if err != nil {
		return nil, err
	}
	s, release, err := t.cache.open(r)
	if err != nil {
		return nil, fmt.Errorf("topic %s cannot be used: %w", name, err)
	}
	return &Topic{
		Sink: s, Key: r.key, Receiver: r.name, Origin: originOf(n), DeliveryTimeout: n.DeliveryTimeout, Release: release,
	}, nil
}

func originOf(n *catalog.Notifications) event.Origin {
	return event.Origin{Cluster: n.Cluster, Region: n.Region}
}

// receiver returns the receiver of a topic.
func (t *Topics) receiver(n *catalog.Notifications, namespace, name, sinkURL string) (receiver, error) {
	if found := n.Topic(namespace, name); found != nil {
		r, err := t.withSecrets(n, found)
		if err != nil { // the kubelet may have replaced the files between two of them
			r, err = t.withSecrets(n, found)
		}
		if err != nil {
			return receiver{}, fmt.Errorf("topic %s cannot be used: %w", name, err)
		}
		return r, nil
	}
	if sinkURL == "" {
		return receiver{}, unknown(n, namespace, name)
	}
	if err := n.CheckUserSink(sinkURL); err != nil {
		return receiver{}, fmt.Errorf("topic %s is not in the operator's catalogue, and the annotation %s %w",
			name, v1alpha1.AnnotationNotificationSink, err)
	}
	return t.ofUser(n, sinkURL), nil
}

// withSecrets returns the receiver of a topic of the catalogue, with the secrets as they are at the moment.
func (t *Topics) withSecrets(n *catalog.Notifications, found *catalog.Topic) (receiver, error) {
	secrets, err := openSecrets(t.options.SecretsDir)
	if err != nil {
		return receiver{}, err
	}
	defer secrets.close()
	r := t.ofCatalog(n, found, secrets)
	return r, secrets.err
}

// maxListed is how long the list of known topics in an error is. Unit: bytes.
const maxListed = 100

// unknown returns the error for a topic that nobody knows.
func unknown(n *catalog.Notifications, namespace, name string) error {
	hint := ""
	if near := validation.Nearest(name, n.TopicNames(namespace)); near != "" {
		hint = fmt.Sprintf(" (did you mean %s?)", near)
	}
	return fmt.Errorf("topic %s %w%s; known in this namespace: %s; ask an administrator to add it to notifications.topics of the operator's catalogue",
		name, ErrUnknown, hint, n.KnownTopics(namespace, maxListed))
}

// DeliveryTimeout returns that of the current catalogue, for events whose topic cannot be opened.
func (t *Topics) DeliveryTimeout() time.Duration {
	return t.options.Catalog().Notifications().DeliveryTimeout
}

// Close closes the sinks that nobody uses, and the others when they are released. Open returns an error from now on.
func (t *Topics) Close() { t.cache.close() }
