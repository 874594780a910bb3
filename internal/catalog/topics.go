// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package catalog

import (
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Bounds of the section notifications.
const (
	maxTopics = 1000
	maxOrigin = 256 // bytes
)

var (
	// topicName is that of the API. Source: BatchCompute, Notification.TopicName.
	topicName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]{0,63}$`)
	// originText is a region.
	originText = regexp.MustCompile(`^[!-~]{1,256}$`)
)

// The words of the section.
var (
	receivers     = []string{"http", "nats", "kafka"}
	unknownTopics = []string{"warn", "refuse"}
)

// notificationsSection reads the section notifications.
func (r *reader) notificationsSection(f field) Notifications {
	n := Notifications{DeliveryTimeout: DefaultDeliveryTimeout}
	got := r.knownFields(f, "cluster", "region", "deliveryTimeout", "unknownTopics", "topics", "userSinks")
	if f := got["cluster"]; f.given() {
		n.Cluster = r.required(f, "an absolute URI such as https://prod.example.com, without a user and a / at its end, at most 256 bytes", isOrigin)
	}
	if f := got["region"]; f.given() {
		n.Region = r.required(f, "a region such as ap-guangzhou", originText.MatchString)
	}
	if f := got["deliveryTimeout"]; f.given() {
		n.DeliveryTimeout = r.duration(f, time.Minute, 7*24*time.Hour)
	}
	n.RefuseUnknown = r.oneOf(got["unknownTopics"], unknownTopics) == "refuse"
	n.topics = r.topics(got["topics"])
	r.userSinks(got["userSinks"], &n)
	return n
}

func isOrigin(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.IsAbs() && u.User == nil && !strings.HasSuffix(s, "/") && len(s) <= maxOrigin
}

// duration returns a duration from low to high.
func (r *reader) duration(f field, low, high time.Duration) time.Duration {
	if s, ok := r.text(f); ok {
		if d, err := time.ParseDuration(s); err == nil && low <= d && d <= high {
			return d
		}
		r.fail(f, "must be a duration such as %s, from %s to %s, got %s", span(low), span(low), span(high), describe(f.node))
	}
	return low
}

// span writes a whole number of hours, minutes or seconds.
func span(d time.Duration) string {
	switch {
	case d%time.Hour == 0:
		return fmt.Sprintf("%dh", d/time.Hour)
	case d%time.Minute == 0:
		return fmt.Sprintf("%dm", d/time.Minute)
	}
	return fmt.Sprintf("%ds", d/time.Second)
}

// topics reads the list of topics.
func (r *reader) topics(f field) map[string][]*Topic {
	items := r.items(f)
	if len(items) > maxTopics {
		r.fail(f, "must have at most %d entries, got %d", maxTopics, len(items))
		return nil
	}
	out := make(map[string][]*Topic, len(items))
	lines := map[[2]string]int{} // by name and namespace, which is "" for all
	for _, item := range items {
		t := r.topic(item)
		namespaces := t.Namespaces
		if namespaces == nil {
			namespaces = []string{""}
		}
		for _, ns := range namespaces {
			r.onlyTopic(item, t.Name, ns, lines)
		}
		out[t.Name] = append(out[t.Name], t)
	}
	return out
}

// onlyTopic notes that a namespace has a topic twice.
func (r *reader) onlyTopic(item field, name, namespace string, lines map[[2]string]int) {
	key := [2]string{name, namespace}
	first, twice := lines[key]
	switch {
	case !twice:
		lines[key] = item.line
	case namespace == "":
		r.fail(item, "must be the only entry of %s for all namespaces; another is on line %d", quote(name), first)
	default:
		r.fail(item, "must be the only entry of %s for the namespace %s; another is on line %d", quote(name), quote(namespace), first)
	}
}

// topic reads one entry.
func (r *reader) topic(f field) *Topic {
	t := &Topic{}
	var name field
	var given []string
	for _, e := range r.entries(f) {
		if slices.Contains(receivers, e.name) {
			given = append(given, e.name)
		}
		switch e.name {
		case "name":
			name = e
		case "namespaces":
			t.Namespaces = r.namespaces(e)
		case "http":
			t.HTTP = r.httpReceiver(e)
		case "nats":
			t.NATS = r.natsReceiver(e)
		case "kafka":
			t.Kafka = r.kafkaReceiver(e)
		default:
			r.unknown(e, append([]string{"name", "namespaces"}, receivers...)...)
		}
	}
	t.Name = r.required(orMissing(name, f, "name"), "at most 64 letters, digits and '-', beginning with a letter", topicName.MatchString)
	switch len(given) {
	case 1:
	case 0:
		r.fail(f, "must have exactly one of %s, got none", strings.Join(receivers, ", "))
	default:
		r.fail(f, "must have exactly one of %s, got %s", strings.Join(receivers, ", "), strings.Join(given, " and "))
	}
	return t
}

// namespaces reads the namespaces of a topic; nil stands for all.
func (r *reader) namespaces(f field) []string {
	out := r.texts(f, maxAllowed, "the name of a namespace", isObjectName)
	if f.node.Kind == yaml.SequenceNode && len(out) == 0 {
		r.fail(f, "must have at least one namespace; leave the field out for all")
	}
	return out
}

// texts returns the values of a list of at most so many texts; nil when it is not given.
func (r *reader) texts(f field, most int, what string, is func(string) bool) (out []string) {
	items := r.items(f)
	if len(items) > most {
		r.fail(f, "must have at most %d values, got %d", most, len(items))
		return nil
	}
	for _, item := range items {
		out = append(out, r.required(item, what, is))
	}
	return out
}

// userSinks reads which receivers users may name.
func (r *reader) userSinks(f field, n *Notifications) {
	got := r.knownFields(f, "allowedHosts", "refusedNetworks")
	n.allowedHosts = r.texts(got["allowedHosts"], maxAllowed,
		"a host such as hooks.example.com, *.example.com or *, in lower case, with a port if that is not 443", isHostRule)
	for _, text := range r.texts(got["refusedNetworks"], maxAllowed, "a network such as 203.0.113.0/24", isNetwork) {
		if p, err := netip.ParsePrefix(text); err == nil {
			n.RefusedNetworks = append(n.RefusedNetworks, p)
		}
	}
}

// isHostRule reports whether s is a rule for matchesHost.
func isHostRule(s string) bool {
	host, port, found := strings.Cut(s, ":")
	if found && !isPort(port) {
		return false
	}
	return host == "*" || isObjectName(strings.TrimPrefix(host, "*."))
}

// isNetwork reports whether s is a network in its usual form, with no bits behind the length.
func isNetwork(s string) bool {
	p, err := netip.ParsePrefix(s)
	return err == nil && p == p.Masked() && !p.Addr().Is4In6()
}
