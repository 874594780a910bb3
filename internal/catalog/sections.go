// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package catalog

import (
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"
)

// The images are checked loosely on purpose: an image reference has many legal forms, and
// the container runtime is the judge of it. What is caught here is what cannot be one.
var (
	imageID  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)
	imageRef = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,511}$`)
)

var (
	// registryHost is a host with or without a port.
	registryHost = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?(:[0-9]{1,5})?$`)
	// registryPath is the path of an image, without tag or digest.
	registryPath = regexp.MustCompile(`^[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*$`)
	// plainQuantity are the quantities without an exponent: those can be as large as one
	// likes, and take as long to compute.
	plainQuantity = regexp.MustCompile(`^[0-9]{1,15}(\.[0-9]{1,9})?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$`)
)

// The largest machine that makes sense: more is a mistake in the unit.
const (
	maxCPU    = 100_000 // cores
	minMemory = 1 << 20
	maxMemory = 1 << 50 // bytes
)

// catalog reads the whole file.
func (r *reader) catalog(root field) *Catalog {
	c := Default()
	var version, kind field
	for _, f := range r.entries(root) {
		switch f.name {
		case "apiVersion":
			version = f
		case "kind":
			kind = f
		case "defaultImage":
			if s, ok := r.text(f); ok && s != "" {
				c.DefaultImage = r.image(f)
			}
		case "images":
			c.images = r.images(f)
		case "instanceTypes":
			c.instanceTypes = r.instanceTypes(f)
		case "deriveInstanceTypes":
			c.derive = r.toggle(f)
		case "diskTypes":
			c.storageClasses = r.diskTypes(f)
		case "chargeTypes":
			c.chargeTypes = r.chargeTypes(f)
		case "priorityClasses":
			c.priorityClasses = r.priorityClasses(f)
		case "registryMirrors":
			c.mirrors = r.mirrors(f)
		case "stores":
			c.stores = r.stores(f)
		case "fileSystems":
			c.fileSystems = r.fileSystems(f)
		case "policy":
			c.policy = r.policy(f)
		case "notifications":
			c.notifications = r.notificationsSection(f)
		default:
			r.unknown(f, "apiVersion", "kind", "defaultImage", "images", "instanceTypes", "deriveInstanceTypes", "diskTypes", "chargeTypes",
				"priorityClasses", "registryMirrors", "stores", "fileSystems", "policy", "notifications")
		}
	}
	r.head(orMissing(version, root, "apiVersion"), APIVersion)
	r.head(orMissing(kind, root, "kind"), Kind)
	if len(r.problems) == 0 {
		c.bySize = sortBySize(c.instanceTypes)
	}
	return c
}

// head checks a field that says what the file is.
func (r *reader) head(f field, want string) {
	r.required(f, want, func(s string) bool { return s == want })
}

// orMissing returns the field f of a mapping, or one that stands for it on the line of
// the mapping.
func orMissing(f, of field, name string) field {
	if f.node == nil {
		return field{name: name, line: of.line, path: join(of.path, name)}
	}
	return f
}

// image returns a container image.
func (r *reader) image(f field) string {
	return r.required(f, "a container image such as "+DefaultImage, imageRef.MatchString)
}

func (r *reader) images(f field) map[string]string {
	out := map[string]string{}
	for _, e := range r.entries(f) {
		if !imageID.MatchString(e.name) {
			r.fail(e, "an identifier must be letters, digits, '.', '_' and '-', got %s", quote(e.name))
		}
		out[e.name] = r.image(e)
	}
	return out
}

func (r *reader) instanceTypes(f field) map[string]*InstanceType {
	entries := r.entries(f)
	if len(entries) > MaxInstanceTypes {
		e := entries[MaxInstanceTypes]
		r.fail(field{line: e.line, path: f.path}, "must be at most %d types, got %d", MaxInstanceTypes, len(entries))
		return nil
	}
	out := make(map[string]*InstanceType, len(entries))
	for _, e := range entries {
		out[e.name] = r.instanceType(e)
	}
	return out
}

func (r *reader) instanceType(f field) *InstanceType {
	if len(validation.IsValidLabelValue(f.name)) > 0 || f.name == "" {
		r.fail(f, "a name must be at most 63 letters, digits, '.', '_' and '-', got %s", quote(f.name))
	}
	it := &InstanceType{Name: f.name, Resources: corev1.ResourceList{}}
	var cpu, memory field
	for _, e := range r.entries(f) {
		switch e.name {
		case "cpu":
			cpu = e
		case "memory":
			memory = e
		case "category":
			it.Category = r.oneOf(e, categories)
		case "resources":
			r.resources(e, it.Resources)
		case "nodeLabels":
			it.NodeLabels = r.labels(e)
		default:
			r.unknown(e, "cpu", "memory", "category", "resources", "nodeLabels")
		}
	}
	cpu, memory = orMissing(cpu, f, "cpu"), orMissing(memory, f, "memory")
	if q, ok := quantityOf(cpu); !ok || q.Sign() <= 0 || q.Value() > maxCPU || q.Cmp(*resource.NewMilliQuantity(q.MilliValue(), q.Format)) != 0 {
		r.fail(cpu, "must be a number of cores such as 4 or 500m, more than 0 and at most %d, got %s", maxCPU, describe(cpu.node))
	} else {
		it.Resources[corev1.ResourceCPU] = q
	}
	if q, ok := quantityOf(memory); !ok || q.Value() < minMemory || q.Value() > maxMemory || !isWhole(q) {
		r.fail(memory, "must be such as 4Gi, from 1Mi to 1Pi, got %s", describe(memory.node))
	} else {
		it.Resources[corev1.ResourceMemory] = q
	}
	return it
}

// quantityOf returns a quantity; ok is false when the field has none that is in use.
func quantityOf(f field) (q resource.Quantity, ok bool) {
	if f.node == nil || f.node.Kind != yaml.ScalarNode || !plainQuantity.MatchString(f.node.Value) {
		return q, false
	}
	q, err := resource.ParseQuantity(f.node.Value)
	return q, err == nil
}

func isWhole(q resource.Quantity) bool { return q.Cmp(*resource.NewQuantity(q.Value(), q.Format)) == 0 }

// resources adds extended resources, which are counted in whole numbers.
func (r *reader) resources(f field, to corev1.ResourceList) {
	for _, e := range r.entries(f) {
		if !isExtended(e.name) {
			r.fail(e, "must be an extended resource such as nvidia.com/gpu")
			continue
		}
		q, ok := quantityOf(e)
		if !ok || q.Sign() <= 0 || !isWhole(q) {
			r.fail(e, "must be a whole number above 0, got %s", describe(e.node))
			continue
		}
		to[corev1.ResourceName(e.name)] = q
	}
}

// isExtended follows Kubernetes, which leaves names without a domain and those of its own
// domain to itself.
func isExtended(name string) bool {
	domain, _, found := strings.Cut(name, "/")
	return found && domain != "kubernetes.io" && !strings.HasSuffix(domain, ".kubernetes.io") &&
		!strings.HasPrefix(name, corev1.DefaultResourceRequestsPrefix) &&
		len(validation.IsQualifiedName(corev1.DefaultResourceRequestsPrefix+name)) == 0
}

func (r *reader) labels(f field) map[string]string {
	out := map[string]string{}
	for _, e := range r.entries(f) {
		if problems := validation.IsQualifiedName(e.name); len(problems) > 0 {
			r.fail(e, "a label's key: %s", problems[0])
		}
		out[e.name] = r.labelValue(e)
	}
	return out
}

func (r *reader) labelValue(f field) string {
	s, ok := r.text(f)
	if !ok {
		return ""
	}
	if problems := validation.IsValidLabelValue(s); len(problems) > 0 {
		r.fail(f, "%s, got %s", problems[0], quote(s))
	}
	return s
}

// objectName returns the name of an object of the cluster.
func (r *reader) objectName(f field) string {
	return r.required(f, "the name of an object: lower case letters, digits, '-' and '.'",
		isObjectName)
}

// known reports whether a key is one of the API's names, and notes it if not.
func (r *reader) known(f field, names []string) bool {
	if slices.Contains(names, f.name) {
		return true
	}
	r.unknown(f, names...)
	return false
}

func (r *reader) diskTypes(f field) map[string]string {
	out := map[string]string{}
	for _, e := range r.entries(f) {
		if !r.known(e, diskTypes) {
			continue
		}
		var name field
		for _, g := range r.entries(e) {
			if g.name == "storageClassName" {
				name = g
			} else {
				r.unknown(g, "storageClassName")
			}
		}
		out[e.name] = r.objectName(orMissing(name, e, "storageClassName"))
	}
	return out
}

func (r *reader) chargeTypes(f field) map[string]ChargeType {
	out := map[string]ChargeType{}
	for _, e := range r.entries(f) {
		if !r.known(e, chargeTypes) {
			continue
		}
		var t ChargeType
		for _, g := range r.entries(e) {
			switch g.name {
			case "nodeLabels":
				t.NodeLabels = r.labels(g)
			case "tolerations":
				for _, item := range r.items(g) {
					t.Tolerations = append(t.Tolerations, r.toleration(item))
				}
			default:
				r.unknown(g, "nodeLabels", "tolerations")
			}
		}
		out[e.name] = t
	}
	return out
}

// The values of a toleration. Lt and Gt are left out: not every cluster knows them.
var (
	operators = []string{string(corev1.TolerationOpExists), string(corev1.TolerationOpEqual)}
	effects   = []string{string(corev1.TaintEffectNoSchedule), string(corev1.TaintEffectPreferNoSchedule), string(corev1.TaintEffectNoExecute)}
)

// toleration reads a toleration and checks it as the API server does.
func (r *reader) toleration(f field) corev1.Toleration {
	var t corev1.Toleration
	for _, e := range r.entries(f) {
		switch e.name {
		case "key":
			t.Key, _ = r.text(e)
			if problems := validation.IsQualifiedName(t.Key); t.Key != "" && len(problems) > 0 {
				r.fail(e, "%s", problems[0])
			}
		case "operator":
			t.Operator = corev1.TolerationOperator(r.oneOf(e, operators))
		case "value":
			t.Value = r.labelValue(e)
		case "effect":
			t.Effect = corev1.TaintEffect(r.oneOf(e, effects))
		case "tolerationSeconds":
			if n, ok := r.integer(e, 0, 1<<31-1); ok {
				t.TolerationSeconds = &n
			}
		default:
			r.unknown(e, "key", "operator", "value", "effect", "tolerationSeconds")
		}
	}
	switch {
	case t.Key == "" && t.Operator != corev1.TolerationOpExists:
		r.fail(f, "must have a key, or the operator Exists for every taint")
	case t.Operator == corev1.TolerationOpExists && t.Value != "":
		r.fail(f, "must have no value with the operator Exists, got %s", quote(t.Value))
	case t.TolerationSeconds != nil && t.Effect != corev1.TaintEffectNoExecute:
		r.fail(f, "must have the effect NoExecute with tolerationSeconds")
	}
	return t
}

func (r *reader) priorityClasses(f field) (out [maxPriority + 1]string) {
	var lines [maxPriority + 1]int
	for _, item := range r.items(f) {
		var from, to, name field
		for _, e := range r.entries(item) {
			switch e.name {
			case "from":
				from = e
			case "to":
				to = e
			case "priorityClassName":
				name = e
			default:
				r.unknown(e, "from", "to", "priorityClassName")
			}
		}
		class := r.objectName(orMissing(name, item, "priorityClassName"))
		low, lowOK := r.integer(orMissing(from, item, "from"), 0, maxPriority)
		high, highOK := r.integer(orMissing(to, item, "to"), 0, maxPriority)
		switch {
		case !lowOK || !highOK:
			continue
		case low > high:
			r.fail(item, "must have a from that is not above to, got %d and %d", low, high)
			continue
		}
		for p := low; p <= high; p++ {
			if lines[p] != 0 {
				r.fail(item, "must not overlap: priority %d is also in the range on line %d", p, lines[p])
				break
			}
			lines[p], out[p] = item.line, class
		}
	}
	return out
}

func (r *reader) mirrors(f field) map[string]string {
	out := map[string]string{}
	for _, e := range r.entries(f) {
		if !registryHost.MatchString(e.name) || !isRegistry(e.name) || e.name == dockerHubIndex {
			r.fail(e, "must be the host of a registry such as %s or registry.example:5000, got %s", dockerHub, quote(e.name))
		}
		out[e.name] = r.required(e, "a host and a path such as mirror.example/dockerhub", isMirror)
	}
	return out
}

// isMirror reports whether an image's path can follow it.
func isMirror(s string) bool {
	host, path, found := strings.Cut(s, "/")
	return registryHost.MatchString(host) && isRegistry(host) && (!found || registryPath.MatchString(path))
}
