// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package catalog

import (
	"crypto/x509"
	"net/url"
	"path"
	"regexp"
	"strings"
)

// Store is the object store that a cos:// path means in this cluster.
type Store struct {
	// Endpoint is a URL of a host, such as https://cos.ap-guangzhou.myqcloud.com.
	Endpoint string
	Bucket   string
	// Prefix goes before all keys; it is empty or ends with /.
	Prefix string
	// Region is that of the signature.
	Region string
	// PathStyle says that the bucket is in the path of a URL and not in its host.
	PathStyle bool
	// CA are certificates in PEM form that the endpoint's is checked by; empty means those of the system.
	CA string
	// SecretName is the Secret of the job's namespace with the keys secretId and secretKey, and token where
	// there is one; empty means none.
	SecretName string
	// Identity gets keys for a ServiceAccount's token; nil means that it does not.
	Identity *Identity
}

// Identity is a service that exchanges the token of a Pod's ServiceAccount for keys of a store, as the call
// AssumeRoleWithWebIdentity of STS does.
type Identity struct {
	Endpoint string
	// Role is the role to assume, and Audience that of the token.
	Role, Audience string
}

// FileSystem is how a cfs:// or nfs:// path is mounted in this cluster.
type FileSystem struct {
	// CSIDriver mounts it; empty means the kubelet itself, which takes no mount options.
	CSIDriver string
}

// storeRule is an entry of stores. Fields that are empty are taken from the host.
type storeRule struct {
	match string
	Store
}

// fileSystemRule is an entry of fileSystems.
type fileSystemRule struct {
	match string
	FileSystem
}

// The bounds of the lists, and of the certificates of a store, which each Pod has in its specification.
const (
	maxStores = 100
	maxCA     = 8 << 10 // bytes
)

// defaultRegion signs requests to hosts that do not tell their region, as many stores ignore it.
const defaultRegion = "us-east-1"

// cosHost is the vendor's domain. A host is BUCKET-APPID.cos.REGION.myqcloud.com, or, of an older form,
// BUCKET-APPID.cosSHORT.myqcloud.com.
const cosHost = ".myqcloud.com"

// shortRegions are the regions of the older form. Source: the vendor's SDKs for COS.
var shortRegions = map[string]string{
	"bj": "ap-beijing", "tj": "ap-beijing-1", "sh": "ap-shanghai", "gz": "ap-guangzhou", "cd": "ap-chengdu", "sgp": "ap-singapore",
}

// Store returns the store of the host of a cos:// path: what the first entry of stores that matches says, and
// else what the host itself does. ok is false if the host names no bucket.
func (c *Catalog) Store(host string) (s Store, ok bool) {
	for _, r := range c.stores {
		if found, _ := path.Match(r.match, host); found {
			s = r.Store
			break
		}
	}
	own := hostStore(host)
	if s.Bucket == "" {
		s.Bucket = own.Bucket
	}
	if s.Endpoint == "" {
		s.Endpoint = own.Endpoint
	}
	if s.Region == "" {
		s.Region = own.Region
	}
	return s, s.Bucket != "" && s.Endpoint != ""
}

// vendorHost is the form of the vendor's hosts.
var vendorHost = regexp.MustCompile(`^[a-z0-9][a-z0-9-]*-[0-9]+\.cos(\.[a-z0-9-]+|[a-z]+)\.myqcloud\.com$`)

// KnowsHost reports whether somebody has said which store the host of a cos:// path means: the catalogue, or the
// vendor by the form of its hosts. Of any other host Store takes what is behind the first label.
func (c *Catalog) KnowsHost(host string) bool {
	for _, r := range c.stores {
		if found, _ := path.Match(r.match, host); found {
			return true
		}
	}
	return isVendorHost(host)
}

// NamesEndpoint reports whether the endpoint that Store returns for a host was chosen by the administrator or by the
// vendor, and not by who wrote the host: an entry has it, or matches only hosts whose first label is the author's choice,
// or the host has the vendor's form.
func (c *Catalog) NamesEndpoint(host string) bool {
	for _, r := range c.stores {
		if found, _ := path.Match(r.match, host); found {
			return r.Endpoint != "" || isVendorHost(host) || namesRest(r.match, host)
		}
	}
	return isVendorHost(host)
}

// namesRest reports whether a pattern has, without wildcards, all that a host has behind its first label.
func namesRest(match, host string) bool {
	_, pattern, some := strings.Cut(match, ".")
	_, rest, _ := strings.Cut(host, ".")
	return some && pattern == rest && !strings.ContainsAny(pattern, "*?")
}

func isVendorHost(host string) bool {
	parts := vendorHost.FindStringSubmatch(host)
	return parts != nil && (parts[1][0] == '.' || shortRegions[parts[1]] != "")
}

// hostStore reads a host: the bucket is its first label, and the store the rest.
func hostStore(host string) Store {
	bucket, rest, ok := strings.Cut(host, ".")
	if !ok {
		return Store{Bucket: host, Region: defaultRegion}
	}
	s := Store{Bucket: bucket, Endpoint: "https://" + rest, Region: defaultRegion}
	name, ours := strings.CutSuffix(rest, cosHost)
	if !ours {
		return s
	}
	if region, ok := strings.CutPrefix(name, "cos."); ok {
		s.Region = region
	} else if short, ok := strings.CutPrefix(name, "cos"); ok && shortRegions[short] != "" {
		s.Region = shortRegions[short]
		s.Endpoint = "https://cos." + s.Region + cosHost
	}
	return s
}

// FileSystem returns how a path of the host of a cfs:// or nfs:// path is mounted.
func (c *Catalog) FileSystem(host string) FileSystem {
	for _, r := range c.fileSystems {
		if found, _ := path.Match(r.match, host); found {
			return r.FileSystem
		}
	}
	return FileSystem{}
}

var (
	hostPattern = regexp.MustCompile(`^[A-Za-z0-9.*?-]{1,253}$`)
	bucketName  = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	regionName  = regexp.MustCompile(`^[a-z0-9-]{1,64}$`)
	keyPrefix   = regexp.MustCompile(`^([A-Za-z0-9._=-]+/)+$`)
	driverName  = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,61}[A-Za-z0-9])?$`)
	plainText   = regexp.MustCompile(`^[!-~]{1,512}$`)
)

// The styles of a URL.
var styles = []string{"virtual", "path"}

func (r *reader) stores(f field) (out []storeRule) {
	items := r.items(f)
	if len(items) > maxStores {
		r.fail(f, "must have at most %d entries, got %d", maxStores, len(items))
		return nil
	}
	for _, item := range items {
		var s storeRule
		var match field
		for _, e := range r.entries(item) {
			switch e.name {
			case "match":
				match = e
			case "endpoint":
				s.Endpoint = r.required(e, "a URL of a host such as https://s3.example.com:9000", isEndpoint)
			case "bucket":
				s.Bucket = r.required(e, "the name of a bucket: 3 to 63 lower case letters, digits, '-' and '.'", bucketName.MatchString)
			case "prefix":
				s.Prefix = r.required(e, "directories that each end with /, such as batch/", isKeyPrefix)
			case "region":
				s.Region = r.required(e, "a region such as us-east-1", regionName.MatchString)
			case "style":
				s.PathStyle = r.oneOf(e, styles) == "path"
			case "ca":
				s.CA = r.required(e, "certificates in PEM form, at most 8 KiB", isCertificates)
			case "secretName":
				s.SecretName = r.objectName(e)
			case "identity":
				s.Identity = r.identity(e)
			default:
				r.unknown(e, "match", "endpoint", "bucket", "prefix", "region", "style", "ca", "secretName", "identity")
			}
		}
		s.match = r.hostPattern(orMissing(match, item, "match"))
		if s.SecretName != "" && s.Identity != nil {
			r.fail(item, "must have secretName or identity, not both")
		}
		out = append(out, s)
	}
	return out
}

func (r *reader) identity(f field) *Identity {
	var endpoint, role, audience field
	for _, e := range r.entries(f) {
		switch e.name {
		case "endpoint":
			endpoint = e
		case "role":
			role = e
		case "audience":
			audience = e
		default:
			r.unknown(e, "endpoint", "role", "audience")
		}
	}
	id := &Identity{Endpoint: r.required(orMissing(endpoint, f, "endpoint"), "a URL such as https://sts.example.com", isURL)}
	if role.node != nil {
		id.Role = r.required(role, "a role of at most 512 characters", plainText.MatchString)
	}
	id.Audience = r.required(orMissing(audience, f, "audience"), "the audience of the token, at most 512 characters", plainText.MatchString)
	return id
}

func (r *reader) fileSystems(f field) (out []fileSystemRule) {
	items := r.items(f)
	if len(items) > maxStores {
		r.fail(f, "must have at most %d entries, got %d", maxStores, len(items))
		return nil
	}
	for _, item := range items {
		var match, driver field
		for _, e := range r.entries(item) {
			switch e.name {
			case "match":
				match = e
			case "csiDriver":
				driver = e
			default:
				r.unknown(e, "match", "csiDriver")
			}
		}
		out = append(out, fileSystemRule{
			match:      r.hostPattern(orMissing(match, item, "match")),
			FileSystem: FileSystem{CSIDriver: r.required(orMissing(driver, item, "csiDriver"), "the name of a CSI driver such as nfs.csi.k8s.io", driverName.MatchString)},
		})
	}
	return out
}

func (r *reader) hostPattern(f field) string {
	return r.required(f, "a host, in which * stands for any characters, such as *.cos.ap-guangzhou.myqcloud.com", hostPattern.MatchString)
}

// isEndpoint reports whether s is a URL of a host, without a path or a user.
func isEndpoint(s string) bool {
	u, err := url.Parse(s)
	return err == nil && isURL(s) && (u.Path == "" || u.Path == "/")
}

func isURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.User == nil && u.RawQuery == "" && u.Fragment == ""
}

func isKeyPrefix(s string) bool {
	return len(s) <= 512 && keyPrefix.MatchString(s) && !strings.HasPrefix(s, "./") && !strings.HasPrefix(s, "../") &&
		!strings.Contains(s, "/../") && !strings.Contains(s, "/./")
}

func isCertificates(s string) bool {
	return len(s) <= maxCA && x509.NewCertPool().AppendCertsFromPEM([]byte(s))
}
