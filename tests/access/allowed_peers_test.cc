#include "server/access/allowed_peers.h"

#include <unistd.h>

#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/observe/log.h"

namespace ckpt {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr uid_t kStranger = 54321;

PeerCredentials Peer(uid_t uid, gid_t gid, std::vector<gid_t> groups = {}) {
  return {1, uid, gid, std::move(groups)};
}

TEST(AllowedPeers, WithoutListsTheSocketsModeDecides) {
  EXPECT_TRUE(AllowedPeers({}, {}).Admit(Peer(kStranger, kStranger)).ok());
}

TEST(AllowedPeers, UserOrGroupIsEnough) {
  AllowedPeers peers({1000, 1001}, {44});
  EXPECT_TRUE(peers.Admit(Peer(1001, 7)).ok());
  EXPECT_TRUE(peers.Admit(Peer(kStranger, 44)).ok());
  EXPECT_TRUE(peers.Admit(Peer(kStranger, 7, {8, 44})).ok()) << "a supplementary group";
  for (const PeerCredentials& peer : {Peer(kStranger, 7, {8}), Peer(44, 1000), Peer(7, 7)}) {
    const absl::Status refused = peers.Admit(peer);
    EXPECT_EQ(refused.code(), absl::StatusCode::kPermissionDenied);
    EXPECT_THAT(std::string(refused.message()), HasSubstr("--allow-uid"));
  }
}

TEST(AllowedPeers, RootAndTheDaemonsOwnUserAlwaysMay) {
  AllowedPeers peers({1000}, {});
  EXPECT_TRUE(peers.Admit(Peer(0, 0)).ok());
  EXPECT_TRUE(peers.Admit(Peer(::geteuid(), 7)).ok());
}

TEST(AllowedPeers, AFloodOfRefusalsIsAFewLines) {
  std::vector<std::string> lines;
  observe::ConfigureLog({.sink = [&](const std::string& line) { lines.push_back(line); }});
  const AllowedPeers peers({1000}, {});
  const absl::Time begin = absl::Now();
  for (int i = 0; i < 2000; ++i) EXPECT_FALSE(peers.Admit(Peer(kStranger, 7)).ok());
  const double seconds = absl::ToDoubleSeconds(absl::Now() - begin);
  observe::ConfigureLog({});
  ASSERT_FALSE(lines.empty());
  EXPECT_LE(lines.size(), 101 + 10 * seconds);
  EXPECT_THAT(lines[0], AllOf(HasSubstr("refused"), HasSubstr("uid=54321")));
}

}  // namespace
}  // namespace ckpt
