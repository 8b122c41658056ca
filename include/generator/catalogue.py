"""Names, places, devices and shops of the simulated world. None needs escaping in JSON."""

from __future__ import annotations

from typing import NamedTuple


class Culture(NamedTuple):
    """Given and family names that go together."""

    first: tuple[str, ...]
    last: tuple[str, ...]


def _names(first: str, last: str) -> Culture:
    return Culture(tuple(first.split()), tuple(last.split()))


CULTURES = {
    "english": _names(
        "Olivia Jack Amelia Harry Grace Noah Emily James Chloe Ethan Siân Liam",
        "Smith Jones Taylor Brown Wilson O’Connor Walker Evans Clark Harris Johnson Miller",
    ),
    "german": _names(
        "Jürgen Anna Lukas Käthe Felix Marie Björn Lena Jonas Sophie Paul Zoë",
        "Müller Schmidt Weiß Fischer Schäfer Koch Bauer Krüger Vogel Huber Meier Groß",
    ),
    "french": _names(
        "Chloé Louis Élodie Hugo Inès Théo Manon François Camille Jules Léa Noël",
        "Martin Bernard Dubois Lefèvre Moreau Girard Fournier Benoît Roux Gauthier Faure Hébert",
    ),
    "spanish": _names(
        "Sofía Mateo Lucía José Martín Íñigo María Diego Valentina Andrés Núria Joaquín",
        "García Rodríguez Muñoz Fernández Peña Gómez Díaz Ibáñez Castro Vázquez Ríos Núñez",
    ),
    "italian": _names(
        "Giulia Marco Francesca Luca Alessia Matteo Chiara Davide Niccolò Elena",
        "Rossi Russo Ferrari Esposito Bianchi Romano Colombo Ricci Greco D’Angelo",
    ),
    "nordic": _names(
        "Åsa Lars Ingrid Søren Freja Mikko Aino Øyvind Linnéa Björk Jón Sigrún",
        "Hansen Johansson Nielsen Korhonen Åkesson Østergård Virtanen Lindström Mäkinen Jónsdóttir",
    ),
    "slavic": _names(
        "Łukasz Zofia Мария Иван Olena Jiří Božena Миљан Agnieszka Dušan Ольга Stanisław",
        "Kowalski Nováková Иванов Петренко Wójcik Dvořák Horvat Јовановић Kamiński Соколова Żak",
    ),
    "turkish": _names(
        "Ayşe Mehmet Elif Çağlar Gül Şeyma Ömer Işıl",
        "Yılmaz Çelik Şahin Öztürk Aydın Koç Doğan Güneş",
    ),
    "arabic": _names(
        "محمد فاطمة علي Layla Omar Yasmin خالد Nour",
        "العلي حسن Haddad المصري Mansour Khoury سالم Nasser",
    ),
    "hebrew": _names(
        "נועה David Yael איתן Maya דניאל",
        "כהן Levi Mizrahi פרץ Friedman אברהם",
    ),
    "indian": _names(
        "Aarav प्रिया Ananya Rohan Lakshmi अर्जुन Neha Vikram",
        "Sharma Patel सिंह Reddy Iyer Gupta कुमार Nair",
    ),
    "chinese": _names(
        "伟 芳 Wei Xiuying 娜 Jun Mei 静",
        "王 李 Zhang 刘 Chen 杨 Huang 赵",
    ),
    "japanese": _names(
        "陽翔 さくら Haruto Yui 蓮 Aoi 美咲 Ren",
        "佐藤 鈴木 Takahashi 田中 Watanabe 伊藤 Yamamoto 中村",
    ),
    "korean": _names(
        "민준 서연 Jisoo 도윤 Minji Hyun 지우 Seojun",
        "김 이 Park 최 Jung 강 Cho 윤",
    ),
    "vietnamese": _names(
        "Nguyệt Minh Thảo Đức Hương Quân",
        "Nguyễn Trần Lê Phạm Hoàng Đặng",
    ),
    "african": _names(
        "Amara Kwame Zainab Tendai Chidi Wanjirũ Thabo Ngozi",
        "Okafor Mensah Dlamini Adeyemi Njorogé Diallo Nkosi Banda",
    ),
    "portuguese": _names(
        "João Beatriz Miguel Letícia Thiago Inês Antônio Luísa",
        "Silva Santos Araújo Conceição Pereira Gonçalves Simões Rocha",
    ),
}


class City(NamedTuple):
    """A place where customers live and merchants are; `weight` is its share of both."""

    name: str
    country: str
    latitude: float
    longitude: float
    weight: float


# country: (culture, currency of its cards, continent); only currencies of a like scale
COUNTRIES = {
    "United States": ("english", "USD", "America"),
    "Canada": ("english", "CAD", "America"),
    "Mexico": ("spanish", "USD", "America"),
    "Brazil": ("portuguese", "USD", "America"),
    "Argentina": ("spanish", "USD", "America"),
    "Colombia": ("spanish", "USD", "America"),
    "United Kingdom": ("english", "GBP", "Europe"),
    "Ireland": ("english", "EUR", "Europe"),
    "Germany": ("german", "EUR", "Europe"),
    "Austria": ("german", "EUR", "Europe"),
    "Switzerland": ("german", "CHF", "Europe"),
    "France": ("french", "EUR", "Europe"),
    "Belgium": ("french", "EUR", "Europe"),
    "Spain": ("spanish", "EUR", "Europe"),
    "Portugal": ("portuguese", "EUR", "Europe"),
    "Italy": ("italian", "EUR", "Europe"),
    "Netherlands": ("german", "EUR", "Europe"),
    "Sweden": ("nordic", "EUR", "Europe"),
    "Norway": ("nordic", "EUR", "Europe"),
    "Denmark": ("nordic", "EUR", "Europe"),
    "Finland": ("nordic", "EUR", "Europe"),
    "Iceland": ("nordic", "EUR", "Europe"),
    "Poland": ("slavic", "EUR", "Europe"),
    "Czechia": ("slavic", "EUR", "Europe"),
    "Ukraine": ("slavic", "EUR", "Europe"),
    "Serbia": ("slavic", "EUR", "Europe"),
    "Türkiye": ("turkish", "EUR", "Europe"),
    "Israel": ("hebrew", "USD", "Asia"),
    "United Arab Emirates": ("arabic", "USD", "Asia"),
    "Egypt": ("arabic", "USD", "Africa"),
    "Morocco": ("arabic", "EUR", "Africa"),
    "Nigeria": ("african", "USD", "Africa"),
    "Kenya": ("african", "USD", "Africa"),
    "South Africa": ("african", "USD", "Africa"),
    "Ghana": ("african", "USD", "Africa"),
    "India": ("indian", "USD", "Asia"),
    "China": ("chinese", "USD", "Asia"),
    "Japan": ("japanese", "USD", "Asia"),
    "South Korea": ("korean", "USD", "Asia"),
    "Viet Nam": ("vietnamese", "USD", "Asia"),
    "Singapore": ("chinese", "USD", "Asia"),
    "Australia": ("english", "AUD", "Oceania"),
    "New Zealand": ("english", "AUD", "Oceania"),
}

CITIES = tuple(
    City(*row)
    for row in (
        ("New York", "United States", 40.7128, -74.006, 6.0),
        ("Chicago", "United States", 41.8781, -87.6298, 3.0),
        ("Los Angeles", "United States", 34.0522, -118.2437, 4.0),
        ("Houston", "United States", 29.7604, -95.3698, 2.0),
        ("Seattle", "United States", 47.6062, -122.3321, 2.0),
        ("Miami", "United States", 25.7617, -80.1918, 2.0),
        ("Toronto", "Canada", 43.6532, -79.3832, 2.0),
        ("Montréal", "Canada", 45.5017, -73.5673, 1.5),
        ("Vancouver", "Canada", 49.2827, -123.1207, 1.0),
        ("Mexico City", "Mexico", 19.4326, -99.1332, 2.0),
        ("Guadalajara", "Mexico", 20.6597, -103.3496, 1.0),
        ("São Paulo", "Brazil", -23.5505, -46.6333, 3.0),
        ("Rio de Janeiro", "Brazil", -22.9068, -43.1729, 1.5),
        ("Buenos Aires", "Argentina", -34.6037, -58.3816, 1.5),
        ("Córdoba", "Argentina", -31.4201, -64.1888, 0.7),
        ("Bogotá", "Colombia", 4.711, -74.0721, 1.0),
        ("London", "United Kingdom", 51.5074, -0.1278, 5.0),
        ("Manchester", "United Kingdom", 53.4808, -2.2426, 1.5),
        ("Edinburgh", "United Kingdom", 55.9533, -3.1883, 1.0),
        ("Dublin", "Ireland", 53.3498, -6.2603, 1.0),
        ("Cork", "Ireland", 51.8985, -8.4756, 0.4),
        ("Berlin", "Germany", 52.52, 13.405, 3.0),
        ("Hamburg", "Germany", 53.5511, 9.9937, 1.5),
        ("München", "Germany", 48.1351, 11.582, 2.0),
        ("Köln", "Germany", 50.9375, 6.9603, 1.0),
        ("Wien", "Austria", 48.2082, 16.3738, 1.2),
        ("Graz", "Austria", 47.0707, 15.4395, 0.4),
        ("Zürich", "Switzerland", 47.3769, 8.5417, 1.0),
        ("Basel", "Switzerland", 47.5596, 7.5886, 0.5),
        ("Paris", "France", 48.8566, 2.3522, 4.0),
        ("Lyon", "France", 45.764, 4.8357, 1.2),
        ("Marseille", "France", 43.2965, 5.3698, 1.0),
        ("Bruxelles", "Belgium", 50.8503, 4.3517, 1.0),
        ("Madrid", "Spain", 40.4168, -3.7038, 2.5),
        ("Barcelona", "Spain", 41.3874, 2.1686, 2.0),
        ("Sevilla", "Spain", 37.3891, -5.9845, 0.8),
        ("Lisboa", "Portugal", 38.7223, -9.1393, 1.0),
        ("Porto", "Portugal", 41.1579, -8.6291, 0.6),
        ("Roma", "Italy", 41.9028, 12.4964, 2.0),
        ("Milano", "Italy", 45.4642, 9.19, 2.0),
        ("Napoli", "Italy", 40.8518, 14.2681, 1.0),
        ("Amsterdam", "Netherlands", 52.3676, 4.9041, 1.5),
        ("Utrecht", "Netherlands", 52.0907, 5.1214, 0.6),
        ("Stockholm", "Sweden", 59.3293, 18.0686, 1.2),
        ("Göteborg", "Sweden", 57.7089, 11.9746, 0.7),
        ("Oslo", "Norway", 59.9139, 10.7522, 0.9),
        ("København", "Denmark", 55.6761, 12.5683, 1.0),
        ("Århus", "Denmark", 56.1629, 10.2039, 0.4),
        ("Helsinki", "Finland", 60.1699, 24.9384, 0.9),
        ("Reykjavík", "Iceland", 64.1466, -21.9426, 0.2),
        ("Warszawa", "Poland", 52.2297, 21.0122, 1.5),
        ("Kraków", "Poland", 50.0647, 19.945, 0.9),
        ("Praha", "Czechia", 50.0755, 14.4378, 1.0),
        ("Kyiv", "Ukraine", 50.4501, 30.5234, 1.2),
        ("Beograd", "Serbia", 44.7866, 20.4489, 0.6),
        ("İstanbul", "Türkiye", 41.0082, 28.9784, 2.5),
        ("Ankara", "Türkiye", 39.9334, 32.8597, 1.0),
        ("Tel Aviv", "Israel", 32.0853, 34.7818, 0.8),
        ("Dubai", "United Arab Emirates", 25.2048, 55.2708, 1.0),
        ("Abu Dhabi", "United Arab Emirates", 24.4539, 54.3773, 0.5),
        ("Cairo", "Egypt", 30.0444, 31.2357, 1.2),
        ("Casablanca", "Morocco", 33.5731, -7.5898, 0.8),
        ("Lagos", "Nigeria", 6.5244, 3.3792, 1.5),
        ("Abuja", "Nigeria", 9.0765, 7.3986, 0.5),
        ("Nairobi", "Kenya", -1.2921, 36.8219, 1.0),
        ("Johannesburg", "South Africa", -26.2041, 28.0473, 1.2),
        ("Cape Town", "South Africa", -33.9249, 18.4241, 0.9),
        ("Accra", "Ghana", 5.6037, -0.187, 0.6),
        ("Mumbai", "India", 19.076, 72.8777, 2.5),
        ("Delhi", "India", 28.7041, 77.1025, 2.5),
        ("Bengaluru", "India", 12.9716, 77.5946, 1.5),
        ("Shanghai", "China", 31.2304, 121.4737, 2.5),
        ("Beijing", "China", 39.9042, 116.4074, 2.0),
        ("Shenzhen", "China", 22.5431, 114.0579, 1.5),
        ("Tokyo", "Japan", 35.6762, 139.6503, 3.0),
        ("Osaka", "Japan", 34.6937, 135.5023, 1.5),
        ("Sapporo", "Japan", 43.0618, 141.3545, 0.6),
        ("Seoul", "South Korea", 37.5665, 126.978, 2.0),
        ("Busan", "South Korea", 35.1796, 129.0756, 0.8),
        ("Hà Nội", "Viet Nam", 21.0278, 105.8342, 1.0),
        ("Singapore", "Singapore", 1.3521, 103.8198, 1.2),
        ("Sydney", "Australia", -33.8688, 151.2093, 1.8),
        ("Melbourne", "Australia", -37.8136, 144.9631, 1.6),
        ("Perth", "Australia", -31.9523, 115.8613, 0.6),
        ("Auckland", "New Zealand", -36.8509, 174.7645, 0.7),
    )
)  # fmt: skip


class Category(NamedTuple):
    """A kind of shop: `price` is its level (1: average), `micro` the share of its payments that are tiny."""

    name: str
    price: float
    weight: float
    online: bool = False
    micro: float = 0.0
    big: bool = False  # sells things for thousands


CATEGORIES = (
    Category("grocery", 0.9, 6.0, micro=0.06),
    Category("restaurant", 0.9, 4.0, micro=0.03),
    Category("coffee", 0.3, 3.0, micro=0.35),
    Category("public transport", 0.25, 2.0, micro=0.4),
    Category("fuel", 1.3, 2.5, micro=0.03),
    Category("pharmacy", 0.6, 1.5, micro=0.06),
    Category("clothing", 1.6, 2.0),
    Category("hardware", 1.2, 1.0),
    Category("electronics", 3.0, 1.2, big=True),
    Category("furniture", 3.5, 0.8, big=True),
    Category("jewellery", 4.0, 0.4, big=True),
    Category("hotel", 3.5, 0.8, big=True),
    Category("marketplace", 1.1, 3.0, online=True, micro=0.08),
    Category("digital goods", 0.4, 2.0, online=True, micro=0.3),
    Category("gaming", 0.5, 1.5, online=True, micro=0.25),
    Category("travel", 4.0, 1.0, online=True, big=True),
    Category("insurance", 2.5, 0.6, online=True),
    Category("online electronics", 3.0, 1.0, online=True, big=True),
    Category("gift cards", 1.2, 0.5, online=True),
)


class Device(NamedTuple):
    """A model; `later` is its popularity after the drift."""

    name: str
    weight: float
    later: float


DEVICES = tuple(
    Device(*row)
    for row in (
        ("iPhone 13", 5, 2), ("iPhone 14", 6, 3), ("iPhone 15", 7, 5), ("iPhone 16", 5, 7), ("iPhone 17", 1, 8),
        ("iPhone SE", 2, 1), ("Galaxy S22", 3, 1), ("Galaxy S23", 4, 2), ("Galaxy S24", 4, 4),
        ("Galaxy S25", 2, 6), ("Galaxy A15", 4, 2), ("Galaxy A55", 3, 3), ("Galaxy Z Flip", 1, 2),
        ("Pixel 7", 2, 1), ("Pixel 8", 2, 2), ("Pixel 9", 1, 3), ("Redmi Note 12", 3, 2),
        ("Redmi Note 13", 3, 3), ("Xiaomi 14", 2, 2), ("OPPO Reno 11", 2, 2), ("vivo Y36", 2, 1),
        ("Huawei P60", 1, 1), ("Moto G84", 2, 2), ("OnePlus 12", 1, 1), ("Fairphone 5", 0.3, 0.6),
        ("iPad Air", 2, 2), ("iPad Pro", 1, 1), ("Galaxy Tab S9", 1, 1), ("Chrome on Windows", 8, 6),
        ("Edge on Windows", 4, 4), ("Firefox on Windows", 2, 2), ("Chrome on macOS", 3, 3),
        ("Safari on macOS", 3, 3), ("Firefox on Linux", 0.7, 0.7), ("Chrome on Linux", 0.6, 0.6),
        ("Chromebook", 1, 1), ("Apple Watch", 1.5, 3), ("Galaxy Watch", 0.7, 1.5), ("Vision headset", 0, 1),
        ("Car display", 0.2, 2), ("Point-of-sale terminal", 3, 3), ("Smart TV", 0.5, 1),
    )
)  # fmt: skip
