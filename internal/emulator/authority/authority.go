// Package authority makes a certificate authority for one run of the emulator. Real Azure clients insist on TLS
// and check the certificate, so the simulators are served under one leaf certificate, and the client under test is
// given the authority that signed it (SSL_CERT_FILE, or a pool in a test). The authority's key is dropped as soon as
// the leaf is signed: nobody can use a PEM file left behind to forge another certificate.
package authority

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"slices"
	"strings"
	"time"
)

// Authority is a certificate authority and the one server certificate it signed.
type Authority struct {
	root *x509.Certificate
	leaf tls.Certificate
}

// New makes an authority with a leaf for these DNS names and IP addresses (without ports) and for localhost,
// 127.0.0.1 and ::1. Both certificates are ECDSA P-256 and valid from an hour ago for ten years.
func New(names ...string) (*Authority, error) {
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("authority: make the root key: %w", err)
	}
	template := rootTemplate()
	root, err := sign(template, template, rootKey, rootKey)
	if err != nil {
		return nil, fmt.Errorf("authority: sign the root certificate: %w", err)
	}
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("authority: make the server's key: %w", err)
	}
	template, err = leafTemplate(names)
	if err != nil {
		return nil, err
	}
	leaf, err := sign(template, root, leafKey, rootKey)
	if err != nil {
		return nil, fmt.Errorf("authority: sign the server's certificate: %w", err)
	}
	return &Authority{root: root, leaf: tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: leafKey, Leaf: leaf}}, nil
}

// PEM is the authority's certificate, the contents of a file for SSL_CERT_FILE.
func (a *Authority) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.root.Raw})
}

// Pool holds the authority's certificate alone, for tls.Config.RootCAs.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.root)
	return pool
}

// ServerConfig serves the leaf; each call returns a configuration of its own.
func (a *Authority) ServerConfig() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{a.leaf}, MinVersion: tls.VersionTLS12}
}

func rootTemplate() *x509.Certificate {
	template := newTemplate("hsmsweep emulator authority")
	template.IsCA = true
	template.MaxPathLenZero = true
	template.KeyUsage = x509.KeyUsageCertSign
	return template
}

func leafTemplate(names []string) (*x509.Certificate, error) {
	template := newTemplate("hsmsweep emulator")
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for _, name := range append([]string{"localhost", "127.0.0.1", "::1"}, names...) {
		if ip := net.ParseIP(name); ip != nil {
			if !slices.ContainsFunc(template.IPAddresses, ip.Equal) {
				template.IPAddresses = append(template.IPAddresses, ip)
			}
			continue
		}
		if name == "" || strings.ContainsAny(name, ":/ ") {
			return nil, fmt.Errorf("authority: name %q is neither a DNS name nor an IP address; give it without scheme and port", name)
		}
		if !slices.Contains(template.DNSNames, name) {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	return template, nil
}

func newTemplate(commonName string) *x509.Certificate {
	from := time.Now().Add(-time.Hour)
	return &x509.Certificate{
		SerialNumber:          serialNumber(),
		Subject:               pkix.Name{CommonName: commonName},
		NotBefore:             from,
		NotAfter:              from.AddDate(10, 0, 0),
		BasicConstraintsValid: true,
	}
}

// serialNumber is random because a client that met an earlier authority refuses a second certificate with the same
// issuer and number.
func serialNumber() *big.Int {
	var number [16]byte
	rand.Read(number[:])
	number[0] &= 0x7f
	return new(big.Int).SetBytes(number[:])
}

func sign(template, parent *x509.Certificate, key, parentKey *ecdsa.PrivateKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}
