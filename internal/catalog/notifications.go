// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package catalog

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
)

// DefaultDeliveryTimeout is how long after an event it is still sent unless the file says otherwise.
const DefaultDeliveryTimeout = 24 * time.Hour

// Notifications is where the events of notifications go.
type Notifications struct {
	// Cluster is a URI that tells this cluster from others, and Region that of BatchCompute's body. "" if there is none.
	Cluster, Region string
	// DeliveryTimeout is how long after an event it is still sent: a minute to a week.
	DeliveryTimeout time.Duration
	// RefuseUnknown says that an object with a topic that the file does not have is refused; else it gets a warning.
	RefuseUnknown bool
	// RefusedNetworks are networks that receivers of users must not be in, beside those that are not public.
	RefusedNetworks []netip.Prefix
	// topics are by name, each list in the order of the file.
	topics map[string][]*Topic
	// allowedHosts are the hosts that users may send to: see hostRule.
	allowedHosts []string
}

// Topic is an entry of topics. Exactly one of the receivers is set.
type Topic struct {
	Name string
	// Namespaces are those that the entry is for; nil means all.
	Namespaces []string
	HTTP       *HTTPReceiver
	NATS       *NATSReceiver
	Kafka      *KafkaReceiver
}

// Notifications returns where the events of notifications go. It must not be changed.
func (c *Catalog) Notifications() *Notifications { return &c.notifications }

// Topic returns the topic of this name in a namespace: the entry that lists the namespace, else the one for all; nil if
// there is none.
func (n *Notifications) Topic(namespace, name string) *Topic {
	var all *Topic
	for _, t := range n.topics[name] {
		if t.Namespaces == nil {
			all = t
		} else if slices.Contains(t.Namespaces, namespace) {
			return t
		}
	}
	return all
}

// TopicNames returns the names of the topics of a namespace, sorted.
func (n *Notifications) TopicNames(namespace string) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(n.topics)) {
		if n.Topic(namespace, name) != nil {
			out = append(out, name)
		}
	}
	return out
}

// KnownTopics returns the names of the topics of a namespace for a text, as many as fit into so many bytes and at least
// one: "a, b and 3 more", or "none".
func (n *Notifications) KnownTopics(namespace string, size int) string {
	return some(n.TopicNames(namespace), size)
}

// some writes the first words of a list, as many as fit into so many bytes and at least one.
func some(words []string, size int) string {
	if len(words) == 0 {
		return "none"
	}
	text := words[0]
	for i, word := range words[1:] {
		if len(text)+len(", ")+len(word)+len(" and 1000 more") > size {
			return fmt.Sprintf("%s and %d more", text, len(words)-i-1)
		}
		text += ", " + word
	}
	return text
}

// maxListed is how long a list of hosts in a text is. Unit: bytes.
const maxListed = 100

// maxSinkURL bounds the URL of a user's receiver. Unit: bytes.
const maxSinkURL = 2048

// CheckUserSink returns an error if users may not send to this URL. It says what is allowed, and of the URL it has
// nothing but the host, as the rest may be secret. Which addresses the host has is not checked here.
func (n *Notifications) CheckUserSink(raw string) error {
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Scheme != "https" || u.Opaque != "" || u.User != nil || u.Fragment != "" || len(raw) > maxSinkURL ||
		!isObjectName(strings.ToLower(u.Hostname())):
		return fmt.Errorf("must be an https URL with the name of a host, without a user and a fragment, and at most %d bytes", maxSinkURL)
	case len(n.allowedHosts) == 0:
		return errors.New("must not be given: the operator's catalogue lets users name no receiver of their own. " +
			"Use one of its topics, or ask an administrator to add the host to notifications.userSinks.allowedHosts")
	case !slices.ContainsFunc(n.allowedHosts, func(rule string) bool { return matchesHost(rule, u) }):
		return fmt.Errorf("must have a host that the operator's catalogue allows (notifications.userSinks.allowedHosts): %s; got %s",
			some(n.allowedHosts, maxListed), quote(u.Host))
	}
	return nil
}

// matchesHost reports whether a rule allows the host and the port of a URL. A rule is a host, *. and a domain for all
// hosts in the domain, or * for all hosts; behind it may be a port, without which only 443 is allowed.
func matchesHost(rule string, u *url.URL) bool {
	name, port, found := strings.Cut(rule, ":")
	if !found {
		port = "443"
	}
	host, domain := strings.ToLower(u.Hostname()), strings.TrimPrefix(name, "*")
	if got := u.Port(); got != port && (got != "" || port != "443") {
		return false
	}
	return host == name || domain != name && len(host) > len(domain) && strings.HasSuffix(host, domain)
}
