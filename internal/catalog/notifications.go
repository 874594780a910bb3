// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package catalog

import (
	"net/netip"
	"slices"
	"strings"
	"time"
)

// DefaultGiveUpAfter is how long events are tried to be delivered unless the file says otherwise.
const DefaultGiveUpAfter = 24 * time.Hour

// Notifications is where the events of notifications go.
type Notifications struct {
	// Cluster is a URI that tells this cluster from others, and Region that of BatchCompute's body. "" if there is none.
	Cluster, Region string
	// GiveUpAfter is how long after an event it is no longer sent. From a minute to a week.
	GiveUpAfter time.Duration
	// RefuseUnknown says that a job with a topic that the file does not have is refused; else it gets a warning.
	RefuseUnknown bool
	// RefusedNetworks are networks that receivers of users must not be in, beside those that are not public.
	RefusedNetworks []netip.Prefix
	// topics are in the order of the file.
	topics []Topic
	// allowedHosts are those that users may send to.
	allowedHosts []string
}

// Topic is an entry of topics. One of HTTP, NATS and Kafka is set.
type Topic struct {
	Name string
	// Namespaces are those that the entry is for, sorted; nil means all.
	Namespaces []string
	HTTP       *HTTPReceiver
}

// HTTPReceiver is a receiver that is reached by HTTP. Zero values stand for the defaults of package sink. The fields
// whose names end with Key name keys of the Secret for notifications.
type HTTPReceiver struct {
	URL                                          string
	Format                                       string
	BearerKey, UsernameKey, PasswordKey, HMACKey string
	// CA are certificates as PEM, or CAKey names a key with them.
	CA, CAKey string
	Timeout   time.Duration
	BatchSize int
}

// Notifications returns where the events of notifications go. It must not be changed.
func (c *Catalog) Notifications() *Notifications { return &c.notifications }

// Topic returns the topic of this name for a namespace: an entry that lists the namespace, else one for all; nil if
// there is none. An empty namespace stands for one that is not known: any entry of this name.
func (n *Notifications) Topic(namespace, name string) *Topic {
	var all *Topic
	for i := range n.topics {
		switch t := &n.topics[i]; {
		case t.Name != name:
		case t.Namespaces == nil:
			all = t
		case namespace == "" || slices.Contains(t.Namespaces, namespace):
			return t
		}
	}
	return all
}

// TopicNames returns the names of the topics of a namespace, sorted, each once.
func (n *Notifications) TopicNames(namespace string) []string {
	var out []string
	for i := range n.topics {
		if t := &n.topics[i]; namespace == "" || t.Namespaces == nil || slices.Contains(t.Namespaces, namespace) {
			out = append(out, t.Name)
		}
	}
	slices.SortFunc(out, strings.Compare)
	return slices.Compact(out)
}
