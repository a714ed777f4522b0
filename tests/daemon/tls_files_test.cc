// The TLS files of the TCP port: what is refused at start and with which words, and what happens
// when they are replaced while the daemon serves.
#include "server/daemon/tls_files.h"

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/fixtures/certificates.h"
#include "tests/fixtures/daemon.h"
#include "tests/fixtures/process.h"

namespace ckpt {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class TlsFilesTest : public ::testing::Test {
 protected:
  std::string Refusal(const TlsPaths& paths) {
    const auto files = TlsFiles::Open(paths);
    if (files.ok()) return "(accepted)";
    EXPECT_TRUE(absl::IsInvalidArgument(files.status())) << files.status();
    return std::string(files.status().message());
  }
  std::string Write(const std::string& name, const std::string& text) {
    std::ofstream(scratch_ / name, std::ios::trunc) << text;
    return scratch_ / name;
  }

  testing::ScratchFolder scratch_;
  const testing::TestCertificate ca_ = testing::MakeAuthority(scratch_ / "ca");
  const testing::TestCertificate own_ = testing::Issue(ca_, scratch_ / "own");
  const TlsPaths paths_{own_.certificate, own_.key, ca_.certificate};
};

TEST_F(TlsFilesTest, TheSameFilesAreOneObject) {
  const auto files = TlsFiles::Open(paths_);
  ASSERT_TRUE(files.ok()) << files.status();
  const auto first = (*files)->Current();
  EXPECT_EQ(first->certificate_chain, testing::ReadWholeFile(own_.certificate));
  EXPECT_EQ(first->private_key, testing::ReadWholeFile(own_.key));
  EXPECT_EQ(first->client_ca, testing::ReadWholeFile(ca_.certificate));
  EXPECT_EQ((*files)->Current(), first);
}

TEST_F(TlsFilesTest, WhatIsWrongNamesSettingAndFile) {
  TlsPaths paths = paths_;
  paths.certificate = scratch_ / "absent.pem";
  EXPECT_THAT(Refusal(paths), AllOf(HasSubstr("--tls-cert"), HasSubstr(paths.certificate),
                                    HasSubstr("No such file")));
  paths = paths_;
  paths.client_ca = scratch_.path();
  EXPECT_THAT(Refusal(paths), AllOf(HasSubstr("--tls-client-ca"), HasSubstr("is a folder")));
  paths = paths_;
  paths.client_ca = Write("text", "this is no certificate\n");
  EXPECT_THAT(Refusal(paths), AllOf(HasSubstr("--tls-client-ca"), HasSubstr(paths.client_ca),
                                    HasSubstr("BEGIN CERTIFICATE")));
  paths = paths_;
  paths.certificate = own_.key;
  EXPECT_THAT(Refusal(paths), AllOf(HasSubstr("--tls-cert"), HasSubstr("BEGIN CERTIFICATE")));
  paths = paths_;
  paths.key = own_.certificate;
  EXPECT_THAT(Refusal(paths), AllOf(HasSubstr("--tls-key"), HasSubstr("BEGIN PRIVATE KEY")));
  paths = paths_;
  paths.key = ca_.key;
  EXPECT_THAT(Refusal(paths), AllOf(HasSubstr("--tls-key"), HasSubstr(ca_.key),
                                    HasSubstr("is not the key of the certificate"),
                                    HasSubstr(own_.certificate)));
  paths.key = Write("long", std::string((1 << 20) + 1, 'x'));
  EXPECT_THAT(Refusal(paths), HasSubstr("longer than 1 MiB"));
  paths.key = Write("zero", std::string("\0key", 4));
  EXPECT_THAT(Refusal(paths), HasSubstr("no PEM file"));
}

TEST_F(TlsFilesTest, DamagedFilesAreRefused) {
  const std::string certificate = testing::ReadWholeFile(own_.certificate);
  TlsPaths paths = paths_;
  paths.certificate = Write("half.pem", certificate.substr(0, certificate.size() / 2));
  EXPECT_THAT(Refusal(paths), AllOf(HasSubstr("--tls-cert"), HasSubstr("half.pem")));
  // A chain whose second certificate is cut off.
  paths.certificate =
      Write("chain.pem", certificate + certificate.substr(0, certificate.size() / 2));
  EXPECT_THAT(Refusal(paths), HasSubstr("certificate 2 is damaged"));
  paths = paths_;
  const std::string key = testing::ReadWholeFile(own_.key);
  paths.key = Write("half.key", key.substr(0, key.size() / 2));
  EXPECT_THAT(Refusal(paths), AllOf(HasSubstr("--tls-key"), HasSubstr("half.key")));
}

TEST_F(TlsFilesTest, AKeyWithAPassphraseIsRefusedWithoutAsking) {
  TlsPaths paths = paths_;
  // Not really encrypted: the header alone makes OpenSSL ask.
  paths.key = Write("secret.key",
                    "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n"
                    "DEK-Info: AES-128-CBC,00112233445566778899AABBCCDDEEFF\n\n"
                    "AAAAAAAAAAAAAAAAAAAAAA==\n-----END EC PRIVATE KEY-----\n");
  EXPECT_THAT(Refusal(paths), AllOf(HasSubstr("--tls-key"), HasSubstr("passphrase")));
}

TEST_F(TlsFilesTest, AnExpiredCertificateIsTaken) {
  const auto expired = testing::Issue(ca_, scratch_ / "expired", {.valid_until = -absl::Hours(1)});
  EXPECT_EQ(Refusal({expired.certificate, expired.key, ca_.certificate}), "(accepted)");
}

TEST_F(TlsFilesTest, ReplacedFilesAreTakenOnceTheyFitTogether) {
  const auto files = TlsFiles::Open(paths_);
  ASSERT_TRUE(files.ok()) << files.status();
  const auto first = (*files)->Current();
  const auto next = testing::Issue(ca_, scratch_ / "next");
  const std::string next_certificate = testing::ReadWholeFile(next.certificate);

  std::filesystem::rename(next.key, own_.key);
  EXPECT_EQ((*files)->Current(), first) << "the new key is not that of the old certificate";
  std::filesystem::remove(own_.certificate);
  EXPECT_EQ((*files)->Current(), first) << "there is no certificate";
  Write("own.pem", next_certificate.substr(0, 100));
  EXPECT_EQ((*files)->Current(), first) << "half a certificate";
  std::filesystem::rename(next.certificate, own_.certificate);
  const auto second = (*files)->Current();
  EXPECT_EQ(second->certificate_chain, next_certificate);
  EXPECT_EQ(second->client_ca, first->client_ca);
  EXPECT_EQ((*files)->Current(), second);

  const auto other = testing::MakeAuthority(scratch_ / "other");
  std::filesystem::rename(other.certificate, ca_.certificate);
  EXPECT_NE((*files)->Current()->client_ca, second->client_ca);
}

}  // namespace
}  // namespace ckpt
