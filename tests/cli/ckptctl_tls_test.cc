// The TCP port with TLS: ckptctl and the client library against the daemon, with the right
// certificates, the wrong ones, none, and ones that are replaced while it serves.
#include <filesystem>
#include <string>
#include <vector>

#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"
#include "tests/cli/ckptctl_fixture.h"
#include "tests/fixtures/certificates.h"

namespace ckpt::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class CkptctlTls : public Ckptctl {
 protected:
  // With the files `served_` and `client_ca_`, which the test may replace.
  void Serve() {
    StartDaemon({.flags = {"--listen=127.0.0.1:0", "--tls-cert=" + served_.certificate,
                           "--tls-key=" + served_.key, "--tls-client-ca=" + client_ca_}});
    address_ = TcpAddress();
  }
  void ServeWith(const std::string& names, absl::Duration valid_until = absl::Hours(1)) {
    served_ = Issue(ca_, folder_ / "served", {.names = names, .valid_until = valid_until});
    Serve();
  }

  static TlsOptions Tls(const TestCertificate& ca, const TestCertificate& caller) {
    return {.ca_file = ca.certificate,
            .certificate_file = caller.certificate,
            .key_file = caller.key};
  }
  CommandResult Health(const TestCertificate& ca, const TestCertificate& caller,
                       std::vector<std::string> more = {}) {
    std::vector<std::string> words = {"health", "--address=" + address_,
                                      "--tls-ca=" + ca.certificate,
                                      "--tls-cert=" + caller.certificate,
                                      "--tls-key=" + caller.key};
    words.insert(words.end(), more.begin(), more.end());
    return Run(words);
  }
  void ExpectThrough(const CommandResult& result) {
    EXPECT_EQ(result.exit_status, 0) << result.errors;
  }
  static constexpr int kNobody = 4;
  static constexpr int kDenied = 10;

  const TestCertificate ca_ = MakeAuthority(folder_ / "ca");
  const TestCertificate other_ca_ = MakeAuthority(folder_ / "other-ca");
  const TestCertificate caller_ = Issue(ca_, folder_ / "caller");
  const TestCertificate stranger_ = Issue(other_ca_, folder_ / "stranger");
  TestCertificate served_ = Issue(ca_, folder_ / "served");
  const std::string client_ca_ = MakeCopy(ca_.certificate, folder_ / "client-ca.pem");
  std::string address_;

  // Replaces what is there in one step, as tools that renew certificates do.
  static std::string MakeCopy(const std::string& from, const std::string& to) {
    std::filesystem::copy_file(from, to + ".new",
                               std::filesystem::copy_options::overwrite_existing);
    std::filesystem::rename(to + ".new", to);
    return to;
  }
};

TEST_F(CkptctlTls, TheRightCertificateGetsThrough) {
  Serve();
  ExpectThrough(Health(ca_, caller_));
  const auto by_environment = RunCommand(
      {BuiltBinary("ckptctl"), "health", "--address", address_},
      {{"CKPTCTL_TLS_CA", ca_.certificate},
       {"CKPTCTL_TLS_CERT", caller_.certificate},
       {"CKPTCTL_TLS_KEY", caller_.key}});
  ASSERT_TRUE(by_environment.ok()) << by_environment.status();
  ExpectThrough(*by_environment);

  // Bytes too: save over TLS, export over TLS, restore over TLS.
  auto client = Client::Connect({.address = address_, .tls = Tls(ca_, caller_)});
  ASSERT_TRUE(client.ok()) << client.status();
  const CheckpointId id = NewId("run", 1);
  auto save = (*client)->Save(id, MakeTestPart(TestState::Mixed(1), 0, 1), {});
  ASSERT_TRUE(save.ok()) << save.status();
  CKPT_ASSERT_OK(save->AwaitStaged(absl::Seconds(60)));
  ASSERT_TRUE((*client)->Wait(id, v1::CHECKPOINT_STATE_COMMITTED, absl::Seconds(60)).ok());
  CKPT_EXPECT_OK(Check("run@1", TestState::Mixed(1)));
  const std::string out = folder_ / "out.safetensors";
  ExpectThrough(Run({"checkpoint", "export", "run@1", out, "--address=" + address_,
                     "--tls-ca=" + ca_.certificate, "--tls-cert=" + caller_.certificate,
                     "--tls-key=" + caller_.key}));
  EXPECT_GT(std::filesystem::file_size(out), 0u);
}

TEST_F(CkptctlTls, CallersThatShowNoRightCertificateAreRefused) {
  Serve();
  const CommandResult stranger = Health(ca_, stranger_);
  EXPECT_EQ(stranger.exit_status, kNobody);
  EXPECT_THAT(stranger.errors,
              AllOf(HasSubstr(stranger_.certificate), HasSubstr("--tls-client-ca")));
  const TestCertificate expired =
      Issue(ca_, folder_ / "expired", {.valid_until = -absl::Hours(1)});
  EXPECT_EQ(Health(ca_, expired).exit_status, kNobody);
  const CommandResult plain = Run({"health", "--address=" + address_});
  EXPECT_EQ(plain.exit_status, kNobody);
  EXPECT_THAT(plain.errors, AllOf(HasSubstr("unencrypted"), HasSubstr("--tls-ca")));
  EXPECT_TRUE(absl::IsUnavailable(
      Client::Connect({.address = address_, .connect_timeout = absl::Seconds(2)}).status()));

  // No certificate at all: TLS otherwise.
  grpc::SslCredentialsOptions without;
  without.pem_root_certs = ReadWholeFile(ca_.certificate);
  auto stub = v1::AdminService::NewStub(
      grpc::CreateChannel(address_, grpc::SslCredentials(without)));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
  v1::GetStatusResponse response;
  EXPECT_EQ(stub->GetStatus(&context, {}, &response).error_code(),
            grpc::StatusCode::UNAVAILABLE);

  ExpectThrough(Health(ca_, caller_));
}

TEST_F(CkptctlTls, ADaemonOfAnotherNameIsRefused) {
  ServeWith("DNS:ckptd.elsewhere");
  const CommandResult other = Health(ca_, caller_);
  EXPECT_EQ(other.exit_status, kDenied);
  EXPECT_THAT(other.errors, HasSubstr("--tls-name"));
  ExpectThrough(Health(ca_, caller_, {"--tls-name=ckptd.elsewhere"}));
  EXPECT_EQ(Health(ca_, caller_, {"--tls-name=ckptd.here"}).exit_status, kDenied);
}

TEST_F(CkptctlTls, ADaemonOfAnotherAuthorityIsRefused) {
  Serve();
  const CommandResult other = Health(other_ca_, caller_);
  EXPECT_EQ(other.exit_status, kDenied);
  EXPECT_THAT(other.errors, AllOf(HasSubstr("--tls-ca"), HasSubstr(other_ca_.certificate)));
}

TEST_F(CkptctlTls, AnExpiredDaemonIsRefused) {
  ServeWith("IP:127.0.0.1", -absl::Hours(1));
  CKPT_EXPECT_OK(daemon().AwaitLog("has expired"));
  EXPECT_EQ(Health(ca_, caller_).exit_status, kDenied);
}

TEST_F(CkptctlTls, AnotherClientAuthorityHoldsWithoutARestart) {
  Serve();
  auto early = Client::Connect({.address = address_, .tls = Tls(ca_, caller_)});
  ASSERT_TRUE(early.ok()) << early.status();
  EXPECT_EQ(Health(ca_, stranger_).exit_status, kNobody);
  MakeCopy(other_ca_.certificate, client_ca_);
  ExpectThrough(Health(ca_, stranger_));
  EXPECT_EQ(Health(ca_, caller_).exit_status, kNobody);
  // Whoever is connected stays so.
  auto save = (*early)->Save(NewId("run", 1), MakeTestPart(TestState::Plain(1, 100'000), 0, 1), {});
  ASSERT_TRUE(save.ok()) << save.status();
  CKPT_EXPECT_OK(save->AwaitStaged(absl::Seconds(60)));
}

TEST_F(CkptctlTls, ARenewedCertificateIsServedOnceItsKeyIsThereToo) {
  Serve();
  const TestCertificate renewed = Issue(other_ca_, folder_ / "renewed");
  MakeCopy(renewed.key, served_.key);
  ExpectThrough(Health(ca_, caller_));  // the earlier pair
  CKPT_EXPECT_OK(daemon().AwaitLog("do not fit together"));
  EXPECT_EQ(Health(other_ca_, caller_).exit_status, kDenied);
  MakeCopy(renewed.certificate, served_.certificate);
  ExpectThrough(Health(other_ca_, caller_));
  EXPECT_EQ(Health(ca_, caller_).exit_status, kDenied);
}

TEST_F(CkptctlTls, TlsToAPortWithoutIsTold) {
  StartDaemon({.flags = {"--listen=127.0.0.1:0", "--insecure-tcp"}});
  address_ = TcpAddress();
  const CommandResult result = Health(ca_, caller_);
  EXPECT_EQ(result.exit_status, kNobody);
  EXPECT_THAT(result.errors, AllOf(HasSubstr("--insecure-tcp"), HasSubstr("speaks no TLS")));
}

TEST_F(CkptctlTls, FilesThatAreMissingOrNoneAreNamed) {
  const auto refused = [this](std::vector<std::string> words, const std::string& text) {
    words.insert(words.begin(), "health");
    const CommandResult result = Run(words);
    EXPECT_EQ(result.exit_status, 2) << result.errors;
    EXPECT_THAT(result.errors, HasSubstr(text));
  };
  refused({"--tls-ca=x"}, "--address");
  const std::string address = "--address=127.0.0.1:1";
  refused({address, "--tls-ca=" + ca_.certificate}, "the certificate is missing");
  refused({address, "--tls-name=here"}, "the CA is missing");
  refused({address, "--tls-ca=" + folder_ / "absent"}, folder_ / "absent");
  refused({address, "--tls-ca=" + ca_.key}, "BEGIN CERTIFICATE");
  refused({address, "--tls-ca=" + ca_.certificate, "--tls-cert=" + caller_.certificate,
           "--tls-key=" + stranger_.key},
          "is not the key of the certificate");
}

TEST_F(CkptctlTls, ADaemonDoesNotStartWithWrongFiles) {
  const auto result = RunCommand(
      {BuiltBinary("ckptd"), "--socket=" + folder_ / "s", "--data-dir=" + folder_ / "data",
       "--listen=127.0.0.1:0", "--tls-cert=" + served_.certificate, "--tls-key=" + caller_.key,
       "--tls-client-ca=" + client_ca_});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->exit_status, 2);
  EXPECT_THAT(result->errors, AllOf(HasSubstr("--tls-key"), HasSubstr(caller_.key)));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "data")) << "nothing was touched";
}

}  // namespace
}  // namespace ckpt::testing
