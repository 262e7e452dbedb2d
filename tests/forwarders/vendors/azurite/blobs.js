// The blob service of Azurite, Microsoft's own server for tests; its arguments are Azurite's.
require("azurite/dist/src/blob/main");
