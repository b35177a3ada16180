#include "server/gallery.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tandem/error.h"

namespace tandem::server {
namespace {

namespace fs = std::filesystem;

class GalleryTest : public ::testing::Test {
 protected:
  GalleryTest() { fs::create_directories(folder / "below"); }
  ~GalleryTest() override { fs::remove_all(folder); }
  void write(const std::string& name, const std::string& bytes) const {
    std::ofstream(folder / name, std::ios::binary) << bytes;
  }
  const fs::path folder =
      fs::temp_directory_path() /
      ("tandem-gallery-" +
       std::to_string(std::hash<std::string>{}(::testing::UnitTest::GetInstance()->current_test_info()->name())));
};

const std::string kPng = "\x89PNG\r\n\x1a\n and more";

TEST_F(GalleryTest, ListsPicturesByPath) {
  write("b_two.PNG", kPng);
  write("a.jpeg", "\xff\xd8\xff\xe0");
  write("below/c.webp", std::string("RIFF\0\0\0\0WEBP", 12));
  write("notes.txt", "no picture");
  const Gallery gallery(folder, 10);
  ASSERT_EQ(gallery.size(), 3u);
  EXPECT_EQ(gallery.name(0), "a");
  EXPECT_EQ(gallery.name(1), "b two");
  EXPECT_EQ(gallery.read(0).second, "image/jpeg");
  EXPECT_EQ(gallery.read(1).first, kPng);
  EXPECT_EQ(gallery.read(2).second, "image/webp");
  EXPECT_EQ(Gallery(folder, 2).left_out(), 1u);
  EXPECT_THROW(gallery.read(3), Error);
  EXPECT_THROW(Gallery(folder / "nothing", 10), Error);
}

TEST_F(GalleryTest, OnlyPicturesAreHandedOut) {
  write("a.png", "<script>alert(1)</script>");
  const Gallery gallery(folder, 10);
  try {
    gallery.read(0);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::unsupported);
  }
  fs::remove(folder / "a.png");
  try {
    gallery.read(0);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::not_found);
  }
}

TEST_F(GalleryTest, FindsTheNearestWhateverTheOrder) {
  for (const char* name : {"a.png", "b.png", "c.png"}) write(name, kPng);
  Gallery gallery(folder, 10);
  EXPECT_TRUE(gallery.search(std::vector<float>{1, 0}, 3).empty());
  gallery.add(2, std::vector<float>{1, 0});
  gallery.add_failed(1);
  gallery.add(0, std::vector<float>{0.6f, 0.8f});
  EXPECT_EQ(gallery.done(), 3u);
  EXPECT_EQ(gallery.failed(), 1u);
  const auto hits = gallery.search(std::vector<float>{0, 1}, 5);
  ASSERT_EQ(hits.size(), 2u);
  EXPECT_EQ(hits[0].id, 0u);
  EXPECT_FLOAT_EQ(hits[0].score, 0.8f);
  EXPECT_EQ(hits[1].id, 2u);
}

}  // namespace
}  // namespace tandem::server
