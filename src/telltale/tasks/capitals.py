"""Every country's capital, with three other capitals of its part of the world to choose from.

The countries are the members of the United Nations and its two observer states. Where a country
has several capitals, the one meant is its constitutional or executive one, and no other of its
capitals is among the choices.
"""

from __future__ import annotations

from telltale.support.files import sha256_of
from telltale.tasks.rows import Row

REGIONS = {
    "Europe": """
        Albania: Tirana; Andorra: Andorra la Vella; Austria: Vienna; Belarus: Minsk;
        Belgium: Brussels; Bosnia and Herzegovina: Sarajevo; Bulgaria: Sofia; Croatia: Zagreb;
        Czechia: Prague; Denmark: Copenhagen; Estonia: Tallinn; Finland: Helsinki; France: Paris;
        Germany: Berlin; Greece: Athens; Hungary: Budapest; Iceland: Reykjavik; Ireland: Dublin;
        Italy: Rome; Latvia: Riga; Liechtenstein: Vaduz; Lithuania: Vilnius;
        Luxembourg: Luxembourg; Malta: Valletta; Moldova: Chisinau; Monaco: Monaco;
        Montenegro: Podgorica; the Netherlands: Amsterdam; North Macedonia: Skopje; Norway: Oslo;
        Poland: Warsaw; Portugal: Lisbon; Romania: Bucharest; Russia: Moscow;
        San Marino: San Marino; Serbia: Belgrade; Slovakia: Bratislava; Slovenia: Ljubljana;
        Spain: Madrid; Sweden: Stockholm; Switzerland: Bern; Ukraine: Kyiv;
        the United Kingdom: London; Vatican City: Vatican City
    """,
    "Asia": """
        Afghanistan: Kabul; Armenia: Yerevan; Azerbaijan: Baku; Bahrain: Manama;
        Bangladesh: Dhaka; Bhutan: Thimphu; Brunei: Bandar Seri Begawan; Cambodia: Phnom Penh;
        China: Beijing; Cyprus: Nicosia; Georgia: Tbilisi; India: New Delhi; Indonesia: Jakarta;
        Iran: Tehran; Iraq: Baghdad; Israel: Jerusalem; Japan: Tokyo; Jordan: Amman;
        Kazakhstan: Astana; Kuwait: Kuwait City; Kyrgyzstan: Bishkek; Laos: Vientiane;
        Lebanon: Beirut; Malaysia: Kuala Lumpur; the Maldives: Male; Mongolia: Ulaanbaatar;
        Myanmar: Naypyidaw; Nepal: Kathmandu; North Korea: Pyongyang; Oman: Muscat;
        Pakistan: Islamabad; Palestine: Ramallah; the Philippines: Manila; Qatar: Doha;
        Saudi Arabia: Riyadh; Singapore: Singapore; South Korea: Seoul;
        Sri Lanka: Sri Jayawardenepura Kotte; Syria: Damascus; Tajikistan: Dushanbe;
        Thailand: Bangkok; Timor-Leste: Dili; Turkey: Ankara; Turkmenistan: Ashgabat;
        the United Arab Emirates: Abu Dhabi; Uzbekistan: Tashkent; Vietnam: Hanoi; Yemen: Sanaa
    """,
    "Africa": """
        Algeria: Algiers; Angola: Luanda; Benin: Porto-Novo; Botswana: Gaborone;
        Burkina Faso: Ouagadougou; Burundi: Gitega; Cabo Verde: Praia; Cameroon: Yaounde;
        the Central African Republic: Bangui; Chad: N'Djamena; the Comoros: Moroni;
        the Democratic Republic of the Congo: Kinshasa; the Republic of the Congo: Brazzaville;
        Djibouti: Djibouti; Egypt: Cairo; Equatorial Guinea: Malabo; Eritrea: Asmara;
        Eswatini: Mbabane; Ethiopia: Addis Ababa; Gabon: Libreville; the Gambia: Banjul;
        Ghana: Accra; Guinea: Conakry; Guinea-Bissau: Bissau; Ivory Coast: Yamoussoukro;
        Kenya: Nairobi; Lesotho: Maseru; Liberia: Monrovia; Libya: Tripoli;
        Madagascar: Antananarivo; Malawi: Lilongwe; Mali: Bamako; Mauritania: Nouakchott;
        Mauritius: Port Louis; Morocco: Rabat; Mozambique: Maputo; Namibia: Windhoek;
        Niger: Niamey; Nigeria: Abuja; Rwanda: Kigali; Sao Tome and Principe: Sao Tome;
        Senegal: Dakar; the Seychelles: Victoria; Sierra Leone: Freetown; Somalia: Mogadishu;
        South Africa: Pretoria; South Sudan: Juba; Sudan: Khartoum; Tanzania: Dodoma; Togo: Lome;
        Tunisia: Tunis; Uganda: Kampala; Zambia: Lusaka; Zimbabwe: Harare
    """,
    "the Americas": """
        Antigua and Barbuda: Saint John's; Argentina: Buenos Aires; the Bahamas: Nassau;
        Barbados: Bridgetown; Belize: Belmopan; Bolivia: Sucre; Brazil: Brasilia;
        Canada: Ottawa; Chile: Santiago; Colombia: Bogota; Costa Rica: San Jose; Cuba: Havana;
        Dominica: Roseau; the Dominican Republic: Santo Domingo; Ecuador: Quito;
        El Salvador: San Salvador; Grenada: Saint George's; Guatemala: Guatemala City;
        Guyana: Georgetown; Haiti: Port-au-Prince; Honduras: Tegucigalpa; Jamaica: Kingston;
        Mexico: Mexico City; Nicaragua: Managua; Panama: Panama City; Paraguay: Asuncion;
        Peru: Lima; Saint Kitts and Nevis: Basseterre; Saint Lucia: Castries;
        Saint Vincent and the Grenadines: Kingstown; Suriname: Paramaribo;
        Trinidad and Tobago: Port of Spain; the United States: Washington, D.C.;
        Uruguay: Montevideo; Venezuela: Caracas
    """,
    "Oceania": """
        Australia: Canberra; Fiji: Suva; Kiribati: South Tarawa; the Marshall Islands: Majuro;
        Micronesia: Palikir; Nauru: Yaren; New Zealand: Wellington; Palau: Ngerulmud;
        Papua New Guinea: Port Moresby; Samoa: Apia; the Solomon Islands: Honiara;
        Tonga: Nuku'alofa; Tuvalu: Funafuti; Vanuatu: Port Vila
    """,
}
CHOICES_EACH = 4


def capitals_by_region() -> dict[str, dict[str, str]]:
    """Country to capital, for each part of the world."""
    return {
        region: {
            country: capital
            for entry in " ".join(text.split()).split(";")
            for country, capital in [entry.strip().split(": ")]
        }
        for region, text in REGIONS.items()
    }


def rows() -> list[Row]:
    """One row for each country, the same on every machine."""
    return [
        _row(country, capital, list(capitals.values()))
        for capitals in capitals_by_region().values()
        for country, capital in capitals.items()
    ]


def _row(country: str, capital: str, nearby: list[str]) -> Row:
    others = [other for other in nearby if other != capital]
    others.sort(key=lambda other: sha256_of(country, other))
    choices = sorted([capital, *others[: CHOICES_EACH - 1]], key=lambda c: sha256_of(c, country))
    return Row(
        id=f"capitals-{country}",
        fields={"question": f"What is the capital of {country}?", "country": country},
        choices=tuple(choices),
        answer=choices.index(capital),
        where=f"capitals, {country}",
    )
