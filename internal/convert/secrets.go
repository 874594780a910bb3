// Copyright The BatchCompute Operator Authors.
// SPDX-License-Identifier: Apache-2.0

package convert

import (
	"encoding/base64"
	"encoding/json"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	k8svalidation "k8s.io/apimachinery/pkg/util/validation"

	"batchcompute.dev/operator/api/v1alpha1"
)

// The entries of the Secrets that are not for a registry.
const (
	secretKeyEntry = "secretKey"
	passwordEntry  = "password"
)

// dockerHub is how a registry's configuration names the default registry.
const dockerHub = "https://index.docker.io/v1/"

// secretMaker makes one Secret for each different credential.
type secretMaker struct {
	owner   *metav1.ObjectMeta
	texts   []string
	secrets []corev1.Secret
	names   map[string]string // by kind and content
	counts  map[string]int    // by kind
}

// makeSecrets turns the credentials that decoding met into Secrets. Until then a
// reference to one has its number as its name.
func (d *decoder) makeSecrets(owner *metav1.ObjectMeta, of func(*secretMaker)) []corev1.Secret {
	m := &secretMaker{owner: owner, texts: d.secrets, names: map[string]string{}, counts: map[string]int{}}
	of(m)
	return m.secrets
}

// ofJob makes the Secrets of a job.
func (m *secretMaker) ofJob(job *v1alpha1.Job) {
	for i := range job.Tasks {
		t := &job.Tasks[i]
		if docker := t.Application.Docker; docker != nil {
			m.make(docker.PasswordSecretRef, "registry", func(password string) (corev1.SecretType, string, string) {
				return corev1.SecretTypeDockerConfigJson, corev1.DockerConfigJsonKey, dockerConfig(docker, password)
			})
		}
		if env := t.ComputeEnv; env != nil {
			m.ofMachine(env.EnvData)
		}
		m.ofKeys(t.Authentications)
	}
}

// ofEnv makes the Secrets of a ComputeEnv.
func (m *secretMaker) ofEnv(env *v1alpha1.ComputeEnvSpec) {
	m.ofMachine(env.EnvData)
	m.ofKeys(env.Authentications)
}

func (m *secretMaker) ofMachine(data *v1alpha1.EnvData) {
	if data == nil || data.LoginSettings == nil {
		return
	}
	m.make(data.LoginSettings.PasswordSecretRef, "login", func(password string) (corev1.SecretType, string, string) {
		return corev1.SecretTypeOpaque, passwordEntry, password
	})
}

func (m *secretMaker) ofKeys(keys []v1alpha1.Authentication) {
	for k := range keys {
		m.make(keys[k].SecretKeySecretRef, "key", func(key string) (corev1.SecretType, string, string) {
			return corev1.SecretTypeOpaque, secretKeyEntry, key
		})
	}
}

// make gives a reference the name of the Secret that content describes, which it makes
// unless there is one with the same content.
func (m *secretMaker) make(ref *v1alpha1.SecretRef, kind string, content func(text string) (corev1.SecretType, string, string)) {
	if ref == nil {
		return
	}
	number, _ := strconv.Atoi(ref.Name) // decoding wrote it
	kindOfSecret, entry, value := content(m.texts[number])
	key := kind + "\x00" + value
	if m.names[key] == "" {
		m.counts[kind]++
		name := m.owner.Name + "-" + kind
		if n := m.counts[kind]; n > 1 {
			name += "-" + strconv.Itoa(n)
		}
		m.names[key] = name
		secret := corev1.Secret{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: m.owner.Namespace},
			Type:       kindOfSecret,
			StringData: map[string]string{entry: value},
		}
		if len(k8svalidation.IsValidLabelValue(m.owner.Name)) == 0 { // a longer name is the caller's
			secret.Labels = map[string]string{v1alpha1.LabelCredentialsOf: m.owner.Name}
		}
		m.secrets = append(m.secrets, secret)
	}
	ref.Name = m.names[key]
}

// dockerConfig is the configuration that the kubelet looks for a registry's password
// in. The registry is Docker.Server, else the one in the image's name.
func dockerConfig(docker *v1alpha1.Docker, password string) string {
	type login struct {
		Username string `json:"username"`
		Password string `json:"password"`
		Auth     string `json:"auth"`
	}
	server := docker.Server
	if server == "" {
		server = registryOf(docker.Image)
	}
	auth := base64.StdEncoding.EncodeToString([]byte(docker.User + ":" + password))
	config, _ := json.Marshal(map[string]map[string]login{"auths": {server: {docker.User, password, auth}}}) // texts only
	return string(config)
}

// registryOf returns the registry in an image's name: what is before the first slash,
// if it has a dot or a port or is localhost.
func registryOf(image string) string {
	first, _, ok := strings.Cut(image, "/")
	if ok && (strings.ContainsAny(first, ".:") || first == "localhost") {
		return first
	}
	return dockerHub
}
